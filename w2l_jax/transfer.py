"""Moves a network's output layer to a new alphabet, character by character (§5)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from w2l_jax import losses, model
from w2l_jax.alphabet import Alphabet, resembling
from w2l_jax.errors import UserError
from w2l_jax.losses import TRANSITIONS
from w2l_jax.model import LAYERS, ModelConfig, Params, layer_name

NewCharacters = Literal["zero", "copy"]


def init(rng: jax.Array, config: ModelConfig, alphabet: Alphabet, mels: int = 128) -> Params:
    """Fresh parameters of layers and criterion for `alphabet`."""
    return {**model.init(rng, config, alphabet.size, mels), **losses.own_parameters(alphabet)}


@dataclasses.dataclass(frozen=True)
class Remap:
    """What an alphabet change did to each character: output weights kept, new, or dropped."""

    kept: str
    new: str
    dropped: str
    copied: dict[str, str]
    """The character whose weights a `new` one copies; others start at zero."""
    criterion: str = ""
    """What a change from CTC to ASG, or back, did to the outputs that are not characters."""

    def text(self) -> str:
        """One line for people; the space is shown as ␣."""
        origins = {c: f"copied from {self.copied[c]}" if c in self.copied else "zero" for c in self.new}
        new = " ".join(f"{c.replace(' ', '␣')} ({origin})" for c, origin in origins.items())
        kept, dropped = (characters.replace(" ", "␣") or "none" for characters in (self.kept, self.dropped))
        return f"alphabet: kept {kept}, new {new or 'none'}, dropped {dropped}{self.criterion and '; '}{self.criterion}"


_TO_ASG = "from CTC to ASG: repetition symbols start at zero, transitions are reinitialised, the blank is dropped"
_TO_CTC = "from ASG to CTC: the blank starts at zero, repetition symbols and transitions are dropped"


def carry_output(
    params: Params, old: Alphabet, new: Alphabet, new_characters: NewCharacters = "zero"
) -> tuple[Params, Remap]:
    """Moves the output layer, and ASG's transitions, from alphabet `old` to `new` by character, blank to blank (§5).

    Characters that `old` lacks get zero weights and bias (as in the paper) or, with `copy`, those of the character they
    resemble, if `old` has it (`alphabet.resembling`). A copy and its source start with equal probability, half of the
    source's each; greedy decoding writes the source until training separates them. Between CTC and ASG alphabets the
    blank and the repetition symbols start at zero. Transitions from or to new symbols are fresh. Raises UserError if
    the layer does not fit `old`.
    """
    name = layer_name(LAYERS)
    kernel_KxCxV, bias_V = params[name]["kernel"], params[name]["bias"]
    if bias_V.shape[0] != old.size:
        raise UserError(f"the output layer has {bias_V.shape[0]} labels but alphabet `old` needs {old.size}")
    fresh = "".join(c for c in new.characters if c not in old.characters)
    sources = {c: resembling(c, old.characters) for c in fresh if new_characters == "copy"}
    copied = {c: source for c, source in sources.items() if source}
    # −1: no source.
    special = range(new.first) if new.repetitions == old.repetitions else [-1] * new.first
    index_V = jnp.array([*special, *(old.ids.get(copied.get(c, c), -1) for c in new.characters)])
    known_V = index_V >= 0
    moved = {
        "kernel": jnp.where(known_V, kernel_KxCxV[..., index_V], 0.0),
        "bias": jnp.where(known_V, bias_V[index_V], 0.0),
    }
    own = losses.own_parameters(new)
    if own and TRANSITIONS in params:
        scores_VxV = params[TRANSITIONS]["scores"][index_V][:, index_V]
        own = {TRANSITIONS: {"scores": jnp.where(known_V[:, None] & known_V, scores_VxV, own[TRANSITIONS]["scores"])}}
    remap = Remap(
        kept="".join(c for c in new.characters if c in old.characters),
        new=fresh,
        dropped="".join(c for c in old.characters if c not in new.characters),
        copied=copied,
        criterion="" if bool(new.repetitions) == bool(old.repetitions) else _TO_ASG if new.repetitions else _TO_CTC,
    )
    layers = {name: layer for name, layer in params.items() if name != TRANSITIONS}
    return {**layers, name: moved, **own}, remap
