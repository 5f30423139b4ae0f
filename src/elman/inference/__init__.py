"""Use of a model: generation, scores, translations."""
