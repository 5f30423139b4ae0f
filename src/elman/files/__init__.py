"""Files, downloads, standard streams and memory limits. No text, no models."""
