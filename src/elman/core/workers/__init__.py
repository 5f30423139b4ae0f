"""Processes that train together, and what they exchange. No models, no training."""
