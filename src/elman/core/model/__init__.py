"""Cells, weights, sampling and scoring of language models: no training."""
