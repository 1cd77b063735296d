"""Training options by the last part of their names, which is enough in tests."""

import dataclasses
from typing import Any

from w2l_jax import config
from w2l_jax.training.options import TrainOptions

DOTTED = {
    option.name: f"{group.name}.{option.name}"
    for group in dataclasses.fields(TrainOptions)
    if dataclasses.is_dataclass(group.default)
    for option in dataclasses.fields(group.default)
}


def changed(options: TrainOptions, **values: Any) -> TrainOptions:
    """`options` with some changed: `eval_every=4` is `log.eval_every`."""
    return config.changed(options, {DOTTED.get(name, name): value for name, value in values.items()})


def train_options(**values: Any) -> TrainOptions:
    """The paper's options with some changed."""
    return changed(TrainOptions(), **values)
