"""Text files, tokenizers, vocabularies and codecs. No batches, no models."""
