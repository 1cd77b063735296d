"""The language models of the decoding tests."""

from tests.decoding.conftest import kenlm_tools, toy_lm

__all__ = ["kenlm_tools", "toy_lm"]
