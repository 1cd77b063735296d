"""Both forms of the sum over paths on the CPU: that of CPUs, and that of other platforms."""

from unittest import mock

import jax
import pytest

from w2l_jax.losses import path_sum

FORMS = ("in chunks", "in one pass")
forms = pytest.mark.parametrize("form", FORMS)


def in_form(form, function):
    """`function` jitted so that its sums over paths are computed in `form`."""
    compiled = jax.jit(lambda *arguments: function(*arguments))

    def call(*arguments):
        with mock.patch.object(path_sum, "CHUNKED_PLATFORMS", ("cpu",) if form == FORMS[0] else ()):
            return compiled(*arguments)

    return call
