"""Names of *Dive into Deep Learning* that are independent of frameworks. No training loop."""
