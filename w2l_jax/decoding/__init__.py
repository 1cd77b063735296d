"""Logits to text: greedy, or a beam search with a language model."""
