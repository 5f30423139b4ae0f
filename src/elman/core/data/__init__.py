"""Token stores, data sets and batches: no model."""
