"""A recurrent language model as compiled code: cells, layers, loss, update, text."""
