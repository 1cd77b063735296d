"""What only `prepare.py` needs."""
