"""The engine's kernels: register tiles, and on them cells, layers, the output layer, updates."""
