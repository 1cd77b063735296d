"""The language models of the decoding tests."""

from tests.decoding.conftest import hand_lm, kenlm_tools, repository_without_kenlm, toy_lm

__all__ = ["hand_lm", "kenlm_tools", "repository_without_kenlm", "toy_lm"]
