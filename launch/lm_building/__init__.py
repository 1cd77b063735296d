"""Making a language model's folder, of text or of a model that others built."""
