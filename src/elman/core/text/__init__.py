"""Text to tokens to ids, and back: no batches, no model."""
