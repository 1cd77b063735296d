"""KenLM models as the beam search reads them."""

DIGESTS = ("sha256", "words_sha256")
"""The card's names of the digests of `lm.bin` and `unigrams.txt`."""
