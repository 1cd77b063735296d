"""Parts of `prepare.py`."""
