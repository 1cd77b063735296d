"""Makes the folder of a language model, from text or from an existing model."""
