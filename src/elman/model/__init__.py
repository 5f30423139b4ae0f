"""Cells, weights, sampling and scoring of language models. No training."""
