"""Loops as machine code, kept between processes."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compiles `function` at its first call, without the interpreter's lock; the next process finds the code.

    It lies beside the source, or in the user's cache where that folder cannot be written to.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither can be written to: each process compiles for itself
        return numba.njit(nogil=True)(function)
