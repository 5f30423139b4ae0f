"""Training loop, callbacks, checkpoints and curves. No run directories, no settings."""
