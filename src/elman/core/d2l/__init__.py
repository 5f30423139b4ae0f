"""Names of *Dive into Deep Learning* that no framework owns. No training loop."""
