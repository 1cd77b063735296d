"""Compiled loops, cached between processes."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compiles `function` at its first call, without the interpreter's lock; cached beside the source or by user."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither is writable: each process compiles
        return numba.njit(nogil=True)(function)
