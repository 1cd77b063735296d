"""Building KenLM language models of text, and taking those of others, as folders that decoding reads."""

from w2l_jax.lm.build import LanguageModelConfig, build

__all__ = ["LanguageModelConfig", "build"]
