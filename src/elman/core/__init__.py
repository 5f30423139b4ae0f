"""Code that no framework owns, in rooms: files, text, data, model, training, experiments."""
