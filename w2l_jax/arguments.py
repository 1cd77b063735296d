"""Checks of arrays that another program passes in."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KINDS = {jnp.integer: "integers", jnp.floating: "floats", jnp.number: "numbers"}


def check_array(name: str, x: Any, kind: Any, **sizes: int) -> None:
    """Raises ValueError unless `x` is an array of dtype `kind` (such as jnp.integer) with the axes that `name` ends in.

    `check_array("frames_B", x, jnp.integer, B=4)` expects integers of shape [4].
    """
    axes = name.rpartition("_")[2].split("x")
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        actual = f"a {type(x).__name__}"
    else:
        actual = f"{x.dtype} {list(x.shape)}"
        fits = all(sizes.get(axis, size) == size for axis, size in zip(axes, x.shape, strict=False))
        if fits and len(axes) == len(x.shape) and jnp.issubdtype(x.dtype, kind):
            return
    asked = ", ".join(f"{axis} = {sizes[axis]}" for axis in axes if axis in sizes)
    shape = f"[{', '.join(axes)}]" + (f" with {asked}" if asked else "")
    raise ValueError(f"{name} must be an array of {_KINDS[kind]} {shape}, not {actual}")


def check_range(name: str, values: Any, low: int, high: int, reason: str) -> None:
    """Raises ValueError if values are known and not within `low` … `high`; `reason` explains the bounds."""
    if not is_known(values):
        return
    values = np.asarray(values)
    if wrong := values[(values < low) | (values > high)].tolist():
        raise ValueError(f"{name} must be in {low} … {high} ({reason}), not {wrong[0]}")


def is_known(x: Any) -> bool:
    """Whether an array's values can be read: not while a function is traced, nor on other machines."""
    return not isinstance(x, jax.core.Tracer) and getattr(x, "is_fully_addressable", True)
