"""Which layers move: a label for every leaf of the parameter tree, computed from layer numbers (paper §5, Figure 1).

The optimizer and the step only read the labels: `frozen`, `trained` or `late` (trained after having been frozen).
"""

import re
from collections.abc import Iterable

import jax
import optax

from w2l_jax.errors import UserError
from w2l_jax.model import LAYERS, Params, layer_name

FROZEN, TRAINED, LATE = "frozen", "trained", "late"
Layers = int | str | Iterable[int]
"""k for the lowest k layers (the paper's k), text such as `8` or `1-3,9`, or layer numbers from 1."""


def parse_layers(layers: Layers) -> frozenset[int]:
    """Returns layer numbers: 8 and `8` are layers 1 to 8, `1-3,9` and (1, 2, 3, 9) list layers.

    A single layer as text is `9,` or `9-9`. Raises UserError for anything else, and if all layers are frozen.
    """
    if isinstance(layers, int):
        layers = str(layers)
    if not isinstance(layers, str):
        numbers = list(layers)
    elif re.fullmatch(r"\d+", text := layers.strip()):
        numbers = range(1, int(text) + 1)
    elif re.fullmatch(r"\d+(-\d+)?(,(\d+(-\d+)?)?)*", text):
        numbers = []
        for part in filter(None, text.split(",")):
            low, _, high = part.partition("-")
            numbers.extend(range(int(low), int(high or low) + 1))
    else:
        raise UserError(f"frozen layers {layers!r}: give a number k (the lowest k layers) or a list such as 1-3,9")
    if any(not isinstance(number, int) or not 1 <= number <= LAYERS for number in numbers):
        raise UserError(f"frozen layers {layers!r}: the network has layers 1 to {LAYERS}")
    if len(set(numbers)) == LAYERS:
        raise UserError(f"frozen layers {layers!r}: freezing all {LAYERS} layers leaves nothing to train")
    return frozenset(numbers)


def frozen_prefix(frozen: frozenset[int]) -> int:
    """How many layers from the bottom are frozen without a gap; they need no gradient."""
    k = 0
    while k + 1 in frozen:
        k += 1
    return k


def labels(params: Params, frozen: frozenset[int], late: frozenset[int] = frozenset()) -> Params:
    """Returns a tree like `params` with `frozen`, `late` or `trained` at every leaf."""
    kinds = {layer_name(number): FROZEN for number in frozen} | {layer_name(number): LATE for number in late}
    if missing := sorted(kinds.keys() - params.keys()):
        raise ValueError(f"params must hold {missing[0]}, which is to be frozen; they hold {', '.join(params)}")
    return {
        name: jax.tree.map(lambda _, label=kinds.get(name, TRAINED): label, layer) for name, layer in params.items()
    }


def partition(params: Params, layers: Layers) -> tuple[Params, Params]:
    """Splits a tree of layers into (trained, frozen); `{**trained, **frozen}` merges them."""
    names = {layer_name(number) for number in parse_layers(layers)}
    trained = {name: layer for name, layer in params.items() if name not in names}
    return trained, {name: layer for name, layer in params.items() if name in names}


def freeze(
    optimizer: optax.GradientTransformation, layers: Layers, *, late: frozenset[int] = frozenset()
) -> optax.GradientTransformation:
    """Returns `optimizer` restricted to the layers not in `layers`; frozen layers get no optimizer state.

    `layers` is as in `parse_layers`. The `late` layers have their own `optimizer`, whose count begins at 0 when they
    are unfrozen: with an old count Adam's bias correction would give first steps of about 3 α.
    """
    frozen = parse_layers(layers)
    transforms = {TRAINED: optimizer, FROZEN: optax.set_to_zero()} | ({LATE: optimizer} if late else {})
    return optax.multi_transform(transforms, lambda params: labels(params, frozen, late))


def reinitialize(params: Params, fresh: Params, layers: Layers) -> Params:
    """Returns the frozen layers of `params` and the rest of `fresh` (§6.1's comparison)."""
    kept = partition(params, layers)[1]
    return {name: kept.get(name, fresh[name]) for name in fresh}
