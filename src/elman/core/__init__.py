"""Code that all frameworks share: files, text, data, model, training, experiments."""
