"""Files, downloads and memory: no text, no model."""
