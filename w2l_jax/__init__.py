"""Wav2Letter with CTC, layer freezing and transfer between languages, as pure functions in JAX.

`w2l_jax.load("english").transcribe("talk.mp3").text` recognises speech; the functions below train and adapt networks.
Modules load on first use of one of their names, so that processes that only decode never import JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from w2l_jax.alphabet import Alphabet as Alphabet
    from w2l_jax.alphabet import preset as preset
    from w2l_jax.errors import UserError as UserError
    from w2l_jax.features import FeatureConfig as FeatureConfig
    from w2l_jax.freezing import freeze as freeze
    from w2l_jax.freezing import parse_layers as parse_layers
    from w2l_jax.freezing import partition as partition
    from w2l_jax.freezing import reinitialize as reinitialize
    from w2l_jax.incoming import Break as Break
    from w2l_jax.losses import ctc_loss as ctc_loss
    from w2l_jax.losses.asg import asg_loss as asg_loss
    from w2l_jax.model import ModelConfig as ModelConfig
    from w2l_jax.model import apply as apply
    from w2l_jax.model import init as init
    from w2l_jax.model import output_frames as output_frames
    from w2l_jax.recognizer import Recognizer as Recognizer
    from w2l_jax.recognizer import Transcription as Transcription
    from w2l_jax.recognizer import load as load
    from w2l_jax.streaming import Event as Event
    from w2l_jax.text import normalize as normalize
    from w2l_jax.transfer import carry_output as carry_output

_WHERE = {
    "Alphabet": "alphabet",
    "Break": "incoming",
    "Event": "streaming",
    "FeatureConfig": "features",
    "ModelConfig": "model",
    "Recognizer": "recognizer",
    "Transcription": "recognizer",
    "UserError": "errors",
    "apply": "model",
    "asg_loss": "losses.asg",
    "carry_output": "transfer",
    "ctc_loss": "losses",
    "freeze": "freezing",
    "init": "model",
    "load": "recognizer",
    "normalize": "text",
    "output_frames": "model",
    "parse_layers": "freezing",
    "partition": "freezing",
    "preset": "alphabet",
    "reinitialize": "freezing",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'w2l_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"w2l_jax.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
