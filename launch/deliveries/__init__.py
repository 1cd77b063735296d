"""Readers of published corpora: one module per layout, listed by name in `catalog`."""
