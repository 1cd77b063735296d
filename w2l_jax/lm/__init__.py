"""KenLM models as the beam search reads them."""
