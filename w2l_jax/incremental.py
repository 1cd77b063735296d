"""The network a few frames at a time: each layer keeps the frames that its next outputs see, so nothing is repeated."""

import functools
from collections.abc import Iterable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax import model
from w2l_jax.model import ModelConfig, Params

FRAMES = 20
"""Input frames of a step, 160 ms; even, as the stride of layer 1 asks."""

State = tuple[jax.Array, ...]
"""Of each layer the last K − 1 frames of its input, [1, K − 1, C]."""


def begin(params: Params, config: ModelConfig) -> State:
    """Returns the state before the first frame: silence before the recording, as SAME pads."""
    return tuple(jnp.zeros((1, layer.kernel - 1, layer.channels_in)) for layer in _table(params, config))


def stream(params: Params, features: Iterable[np.ndarray], config: ModelConfig) -> Iterator[np.ndarray]:
    """Yields the logits [S, V] of features that come in pieces of `FRAMES` frames [T, M], the last one of any length.

    They are those of one pass over all frames, and each is yielded with the piece that completes what it sees, 98
    frames (0.8 s) after its own. One program is compiled, whatever the length.
    """
    state, given, taken = begin(params, config), 0, 0
    _, behind = model.receptive_field(config)

    def advance(piece_TxM: np.ndarray, end: int) -> np.ndarray:
        nonlocal state, given, taken
        padded_1xTxM = np.zeros((1, FRAMES, piece_TxM.shape[1]), np.float16)
        padded_1xTxM[0, : len(piece_TxM)] = piece_TxM
        state, logits_1xSxV = step(params, state, padded_1xTxM, np.array([taken, end]), config)
        first = (taken - behind) // model.STRIDE
        last = min(first + FRAMES // model.STRIDE, model.output_frames(end))
        taken += FRAMES
        new_SxV = np.asarray(logits_1xSxV)[0, max(0, given - first) : max(0, last - first)]
        given += len(new_SxV)
        return new_SxV

    total, piece_TxM = 0, None
    for piece_TxM in features:
        total += len(piece_TxM)
        # Nothing that a full piece completes sees the end of the recording.
        yield advance(piece_TxM, _ENDLESS if len(piece_TxM) == FRAMES else total)
    while given < model.output_frames(total):
        yield advance(piece_TxM[:0], total)


_ENDLESS = 2**30


@functools.partial(jax.jit, static_argnames="config")
def step(
    params: Params, state: State, features_1xTxM: jax.Array, place: jax.Array, config: ModelConfig
) -> tuple[State, jax.Array]:
    """Returns the state after `FRAMES` more frames, and as many logits [1, S, V] as their stride gives.

    `place` is the number of the first frame, and how many frames the recording has. The logits belong to the output
    frames from (number − 98) / 2 on; those outside of the recording are 0.
    """
    first, frames = place[0], place[1]
    x_1xTxC, after = features_1xTxM.astype(jnp.float32), []
    for number, (layer, seen_1xTxC) in enumerate(zip(_table(params, config), state, strict=True), start=1):
        x_1xTxC = jnp.concatenate([seen_1xTxC, x_1xTxC], axis=1)
        after.append(x_1xTxC[:, x_1xTxC.shape[1] - layer.kernel + 1 :])
        leaves = params[layer.name]
        x_1xTxC = jax.lax.conv_general_dilated(
            x_1xTxC, leaves["kernel"], (layer.stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )
        first = (first - (layer.kernel - 1 - (layer.kernel - layer.stride) // 2)) // layer.stride
        frames = -(-frames // layer.stride)
        x_1xTxC = x_1xTxC + leaves["bias"]
        if number < model.LAYERS:
            x_1xTxC = getattr(nn, config.activation)(x_1xTxC)
        at_T = first + jnp.arange(x_1xTxC.shape[1])
        x_1xTxC = jnp.where(((at_T >= 0) & (at_T < frames))[:, None], x_1xTxC, 0)
    return tuple(after), x_1xTxC


def _table(params: Params, config: ModelConfig) -> tuple[model.Layer, ...]:
    kernel = params[model.layer_name(1)]["kernel"], params[model.layer_name(model.LAYERS)]["kernel"]
    return model.layers(config, kernel[1].shape[2], kernel[0].shape[1])
