"""Convolutions over time that are fast on every platform, forward and backward."""

import functools
from typing import Any

import jax
import jax.numpy as jnp


def convolve(
    x_BxTxC: jax.Array, kernel_KxCxD: jax.Array, strides: tuple[int], padding: str, *, precision: Any, **_: Any
) -> jax.Array:
    """SAME convolution [B, S, D]; the arguments are those of `nn.Conv`'s `conv_general_dilated`."""
    # One frame wide, a convolution is a matrix product, and as such its weight gradient needs no transposed copy of
    # the 2000 input channels.
    if len(kernel_KxCxD) == 1:
        return jnp.matmul(x_BxTxC, kernel_KxCxD[0], precision=precision)
    if jax.default_backend() != "cpu":  # all of JAX's transformations, forward mode too
        return _conv(x_BxTxC, kernel_KxCxD, "SAME", precision, window_strides=tuple(strides))
    return _convolution(_spread_like(x_BxTxC, kernel_KxCxD), _spread_like(kernel_KxCxD, x_BxTxC), strides[0], precision)


def unfolded(
    x_BxTxC: jax.Array, kernel_KxCxD: jax.Array, strides: tuple[int], padding: str, *, precision: Any, **_: Any
) -> jax.Array:
    """The same for stride 1, as one matrix product of all windows written out side by side."""
    size, frames = len(kernel_KxCxD), x_BxTxC.shape[1]
    left = (size - 1) // 2
    x_BxTxC = jnp.pad(x_BxTxC, ((0, 0), (left, size - 1 - left), (0, 0)))
    windows_BxTxKC = jnp.concatenate([x_BxTxC[:, i : i + frames] for i in range(size)], axis=-1)
    return jnp.matmul(windows_BxTxKC, kernel_KxCxD.reshape(-1, kernel_KxCxD.shape[-1]), precision=precision)


def _spread_like(x, other):
    """In shard_map, `x` as an array of its own on each device where `other` is: its gradient is summed over devices."""
    axes = tuple(getattr(jax.typeof(other), "vma", frozenset()) - getattr(jax.typeof(x), "vma", frozenset()))
    if not axes:
        return x
    return jax.lax.pcast(x, axes, to="varying") if hasattr(jax.lax, "pcast") else jax.lax.pvary(x, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x_BxTxC, kernel_KxCxD, stride, precision):
    """SAME convolution [B, S, D] with gradients that are fast in loops, too; reverse mode only."""
    return _conv(x_BxTxC, kernel_KxCxD, "SAME", precision, window_strides=(stride,))


def _conv(x, kernel, padding, precision, *, window_strides=(1,), **dilation):
    numbers = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides, padding, dimension_numbers=numbers, precision=precision, **dilation
    )


def _convolution_forward(x_BxTxC, kernel_KxCxD, stride, precision):
    return _convolution(x_BxTxC, kernel_KxCxD, stride, precision), (x_BxTxC, kernel_KxCxD)


def _convolution_backward(stride, precision, saved, g_BxSxD):
    def plain(x, kernel, g):
        return jax.vjp(lambda x, kernel: _conv(x, kernel, "SAME", precision, window_strides=(stride,)), x, kernel)[1](g)

    # XLA brings convolutions into the form that its fast CPU code knows only outside of loops: within, such as those of
    # microbatches, JAX's gradients take fifty times as long. Written in that form they are the same to the last bit.
    in_order = functools.partial(_gradients_in_order, stride=stride, precision=precision)
    return jax.lax.platform_dependent(*saved, g_BxSxD, cpu=in_order, default=plain)


def _gradients_in_order(x_BxTxC, kernel_KxCxD, g_BxSxD, *, stride, precision):
    size, frames, reach = len(kernel_KxCxD), x_BxTxC.shape[1], (g_BxSxD.shape[1] - 1) * stride + 1
    left = (size - stride) // 2
    right = size - 1 - left
    x_padding, kernel_padding = (right, frames - reach + left), (left, right + reach - frames)
    x_gradient = _conv(g_BxSxD, kernel_KxCxD[::-1].swapaxes(1, 2), [x_padding], precision, lhs_dilation=(stride,))
    kernel_gradient_CxKxD = _conv(
        x_BxTxC.transpose(2, 1, 0), g_BxSxD.swapaxes(0, 1), [kernel_padding], precision, rhs_dilation=(stride,)
    )
    return x_gradient, kernel_gradient_CxKxD.swapaxes(0, 1)


_convolution.defvjp(_convolution_forward, _convolution_backward)
