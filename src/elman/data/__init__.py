"""Token stores, data sets, batching and batches. No models, no training."""
