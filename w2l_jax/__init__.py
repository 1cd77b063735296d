"""Wav2Letter with CTC, layer freezing and transfer between languages, as pure functions in JAX.

`import w2l_jax` offers another JAX program these names and loads each module when it is first used; corpora, decoding
and training are imported by name (`w2l_jax.training`, `w2l_jax.decoding.beam`, …).
"""

import importlib
from typing import Any

_WHERE = {
    "Alphabet": "alphabet",
    "FeatureConfig": "features",
    "ModelConfig": "model",
    "Network": "network",
    "Run": "run",
    "UserError": "errors",
    "apply": "model",
    "asg_loss": "losses",
    "carry_output": "transfer",
    "ctc_loss": "losses",
    "init": "model",
    "load": "network",
    "normalize": "text",
    "output_frames": "model",
    "parse_layers": "freezing",
    "partition": "freezing",
    "preset": "alphabet",
    "reinitialize": "freezing",
    "freeze": "freezing",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    # Lazily, because the processes that decode import this package too and have no use for JAX.
    if name not in _WHERE:
        raise AttributeError(f"module 'w2l_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"w2l_jax.{_WHERE[name]}"), name)
