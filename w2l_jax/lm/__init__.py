"""KenLM models as the beam search reads them."""

DIGESTS = ("sha256", "words_sha256")
"""What a model's card calls the digests of `lm.bin` and `unigrams.txt`."""
