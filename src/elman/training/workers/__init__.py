"""Processes that train together, and their communication. No models, no training."""
