"""Corpora as they are delivered: a module a layout, which `catalog` knows by name."""
