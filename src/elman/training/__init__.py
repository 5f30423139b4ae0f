"""The training loop and the contract of a step; callbacks, checkpoints, history. No settings."""
