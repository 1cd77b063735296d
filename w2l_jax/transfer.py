"""Adapting a trained network: which layers stay, which are fresh, and how an output layer moves to a new alphabet.

Freezing is data (§5, Figure 1): a label `frozen`, `trained` or `late` (trained after having been frozen) for every
leaf of the parameter tree, computed from the layers' numbers; the optimizer and the step only read it.
"""

import dataclasses
import re
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from w2l_jax.alphabet import Alphabet, resembling
from w2l_jax.errors import UserError
from w2l_jax.model import LAYERS, Params, layer_name

FROZEN, TRAINED, LATE = "frozen", "trained", "late"
NewCharacters = Literal["zero", "copy"]


def parse_layers(text: str | int) -> frozenset[int]:
    """Layers to freeze from an option: `8` is the prefix 1…8 (the paper's k), `1-3,9` lists layers from 1.

    A single layer alone is written as a list, `9,` or `9-9`. Raises UserError for anything else.
    """
    text = str(text).strip()
    if re.fullmatch(r"\d+", text):
        numbers = range(1, int(text) + 1)
    elif re.fullmatch(r"\d+(-\d+)?(,(\d+(-\d+)?)?)*", text):
        numbers = []
        for part in filter(None, text.split(",")):
            low, _, high = part.partition("-")
            numbers.extend(range(int(low), int(high or low) + 1))
    else:
        raise UserError(f"--frozen_layers={text!r}: give a number k (the lowest k layers) or a list such as 1-3,9")
    if any(not 1 <= number <= LAYERS for number in numbers):
        raise UserError(f"--frozen_layers={text}: the network has layers 1 to {LAYERS}")
    if len(set(numbers)) == LAYERS:
        raise UserError(f"--frozen_layers={text}: with all {LAYERS} layers frozen there is nothing to train")
    return frozenset(numbers)


def frozen_prefix(frozen: frozenset[int]) -> int:
    """How many layers from the bottom are frozen without a gap: no gradient is needed there."""
    k = 0
    while k + 1 in frozen:
        k += 1
    return k


def labels(params: Params, frozen: frozenset[int], late: frozenset[int] = frozenset()) -> Params:
    """A tree like `params` with `frozen`, `late` or `trained` at every leaf."""
    found = {layer_name(number): FROZEN for number in frozen} | {layer_name(number): LATE for number in late}
    return {
        name: jax.tree.map(lambda _, label=found.get(name, TRAINED): label, layer) for name, layer in params.items()
    }


def partition(params: Params, frozen: frozenset[int]) -> tuple[Params, Params]:
    """Splits a tree of layers into (trained, frozen); `{**trained, **frozen}` puts it together again."""
    names = {layer_name(number) for number in frozen}
    trained = {name: layer for name, layer in params.items() if name not in names}
    return trained, {name: layer for name, layer in params.items() if name in names}


def optimizer(
    inner: optax.GradientTransformation, frozen: frozenset[int], late: frozenset[int] = frozenset()
) -> optax.GradientTransformation:
    """`inner` on the trained leaves, nothing on the frozen ones, which get no optimizer state either.

    The `late` leaves have an `inner` to themselves, whose count begins at 0 when they begin to train: Adam would
    divide their first moments by the bias correction of an old count and take steps of about 3 α.
    """
    transforms = {TRAINED: inner, FROZEN: optax.set_to_zero()} | ({LATE: inner} if late else {})
    return optax.multi_transform(transforms, lambda params: labels(params, frozen, late))


def reinitialize(params: Params, fresh: Params, frozen: frozenset[int]) -> Params:
    """Keeps the frozen layers of `params` and takes `fresh` ones for the rest (§6.1's comparison)."""
    return {name: params[name] if name in partition(params, frozen)[1] else fresh[name] for name in fresh}


@dataclasses.dataclass(frozen=True)
class Remap:
    """What an alphabet change did to each character: output weights kept, new, or dropped."""

    kept: str
    new: str
    dropped: str
    copied: dict[str, str]
    """Where the weights of a `new` character come from; those that are not here start at zero."""

    def text(self) -> str:
        """One line for people; the space is shown as ␣."""
        origins = {c: f"copied from {self.copied[c]}" if c in self.copied else "zero" for c in self.new}
        new = " ".join(f"{c.replace(' ', '␣')} ({origin})" for c, origin in origins.items())
        kept, dropped = (characters.replace(" ", "␣") or "none" for characters in (self.kept, self.dropped))
        return f"alphabet: kept {kept}, new {new or 'none'}, dropped {dropped}"


def carry_output(
    params: Params, old: Alphabet, new: Alphabet, new_characters: NewCharacters = "zero"
) -> tuple[Params, Remap]:
    """Moves the output layer from alphabet `old` to `new` by character, blank to blank (§5).

    Characters that `old` lacks get zero weights and a zero bias (the paper's way), or, with `copy`, those of the
    character they look like, where `old` has it (`alphabet.resembling`). A copy and its source then start with equal
    probability, half each of what the source alone would have beside them; greedy decoding writes the source until
    training tells them apart. Raises UserError if the layer does not belong to `old`.
    """
    name = layer_name(LAYERS)
    kernel_KxCxV, bias_V = params[name]["kernel"], params[name]["bias"]
    if bias_V.shape[0] != old.size:
        raise UserError(
            f"the output layer has {bias_V.shape[0]} labels but the alphabet needs {old.size}: the checkpoint and "
            "alphabet.json do not belong together"
        )
    fresh = "".join(c for c in new.characters if c not in old.characters)
    found = {c: resembling(c, old.characters) for c in fresh if new_characters == "copy"}
    copied = {c: source for c, source in found.items() if source}
    # A character without a source is not found (−1), which leads to the blank's weights; `known` puts zeros there.
    index = jnp.array([0] + [1 + old.characters.find(copied.get(c, c)) for c in new.characters])
    known = jnp.array([True] + [c in old.characters or c in copied for c in new.characters])
    moved = {"kernel": jnp.where(known, kernel_KxCxV[..., index], 0.0), "bias": jnp.where(known, bias_V[index], 0.0)}
    remap = Remap(
        kept="".join(c for c in new.characters if c in old.characters),
        new=fresh,
        dropped="".join(c for c in old.characters if c not in new.characters),
        copied=copied,
    )
    return {**params, name: moved}, remap
