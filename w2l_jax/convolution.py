"""Convolutions over time that are fast on every platform, forward and backward."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


def convolve(
    x_BxTxC: jax.Array, kernel_KxCxD: jax.Array, strides: tuple[int], padding: str, *, precision: Any, **_: Any
) -> jax.Array:
    """SAME convolution [B, S, D]; the arguments are those of `nn.Conv`'s `conv_general_dilated`."""
    # A kernel of one frame as a matrix product: its weight gradient needs no transposed copy of 2000 input channels.
    if len(kernel_KxCxD) == 1:
        return jnp.matmul(x_BxTxC, kernel_KxCxD[0], precision=precision)
    convolution = _quick if jax.default_backend() == "cpu" else _plain
    return convolution(x_BxTxC, kernel_KxCxD, strides[0], precision)


def unfolded(
    x_BxTxC: jax.Array, kernel_KxCxD: jax.Array, strides: tuple[int], padding: str, *, precision: Any, **_: Any
) -> jax.Array:
    """The same for stride 1, as one matrix product of all windows written out side by side."""
    size, frames = len(kernel_KxCxD), x_BxTxC.shape[1]
    left = (size - 1) // 2
    x_BxTxC = jnp.pad(x_BxTxC, ((0, 0), (left, size - 1 - left), (0, 0)))
    windows_BxTxKC = jnp.concatenate([x_BxTxC[:, i : i + frames] for i in range(size)], axis=-1)
    return jnp.matmul(windows_BxTxKC, kernel_KxCxD.reshape(-1, kernel_KxCxD.shape[-1]), precision=precision)


def _plain(x_BxTxC, kernel_KxCxD, stride, precision, order=("NWC", "WIO", "NWC")):
    return jax.lax.conv_general_dilated(
        x_BxTxC, kernel_KxCxD, (stride,), "SAME", dimension_numbers=order, precision=precision
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _quick(x_BxTxC, kernel_KxCxD, stride, precision):
    """The same with gradients that are fast also in loops on a CPU."""
    return _plain(x_BxTxC, kernel_KxCxD, stride, precision)


@functools.partial(_quick.defjvp, symbolic_zeros=True)
def _(stride, precision, primals, tangents):
    # XLA's fast CPU path needs the axes in order, and XLA reorders them only outside loops: inside one, such as that of
    # microbatches, JAX's gradients take fifty times as long. With these axes, the gradients that JAX derives have
    # theirs in order. The values are bit-identical.
    (x_BxTxC, kernel_KxCxD), (dx_BxTxC, dkernel_KxCxD) = primals, tangents
    terms = []
    if not isinstance(dx_BxTxC, SymbolicZero):
        terms.append(_plain(dx_BxTxC, kernel_KxCxD.swapaxes(1, 2), stride, precision, ("NWC", "WOI", "NWC")))
    if not isinstance(dkernel_KxCxD, SymbolicZero):
        x_CxTxB, dkernel_CxKxD = x_BxTxC.transpose(2, 1, 0), dkernel_KxCxD.swapaxes(0, 1)
        terms.append(_plain(x_CxTxB, dkernel_CxKxD, stride, precision, ("CWN", "IWO", "WNC")).swapaxes(0, 1))
    return _quick(x_BxTxC, kernel_KxCxD, stride, precision), sum(terms[1:], terms[0])
