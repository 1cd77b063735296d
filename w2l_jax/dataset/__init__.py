"""Prepared datasets: utterances are filtered and stored as features (prepare), then read (store)."""
