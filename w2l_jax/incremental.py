"""The network a few frames at a time: each layer stores the frames its next outputs need, so nothing is recomputed."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax import model
from w2l_jax.model import ModelConfig, Params

FRAMES = 20
"""Input frames of a step, 160 ms; even because of layer 1's stride."""

State = tuple[jax.Array, ...]
"""The last K − 1 input frames of each layer, [1, K − 1, C]."""


class Network:
    """The network on features that arrive in pieces; its logits equal those of one pass over all frames."""

    def __init__(self, params: Params, config: ModelConfig):
        self._params, self._config = params, config
        _, self._behind = model.receptive_field(config)
        layers = _table(params, config)
        self._none_0xM = np.zeros((0, layers[0].channels_in), np.float16)
        self._none_0xV = np.zeros((0, layers[-1].channels_out), np.float32)
        # Zeros before the first frame, as SAME pads.
        state = tuple(jnp.zeros((1, layer.kernel - 1, layer.channels_in), jnp.float32) for layer in layers)
        self._at = _Place(state, 0, 0)

    def extend(self, piece_TxM: np.ndarray) -> np.ndarray:
        """Takes `FRAMES` more frames and returns the logits [S, V] they complete, 98 frames (0.8 s) late."""
        self._at, new_SxV = self._advance(self._at, piece_TxM, _ENDLESS)
        return new_SxV

    def rest(self, piece_TxM: np.ndarray | None = None) -> np.ndarray:
        """Returns the remaining logits [S, V] as if the recording ended after `piece`; does not change the state."""
        at, piece_TxM = self._at, self._none_0xM if piece_TxM is None else piece_TxM
        end, pieces = at.taken + len(piece_TxM), [self._none_0xV]
        while at.given < model.output_frames(end):
            at, new_SxV = self._advance(at, piece_TxM, end)
            pieces.append(new_SxV)
            piece_TxM = self._none_0xM
        return np.concatenate(pieces)

    def _advance(self, at: "_Place", piece_TxM: np.ndarray, end: int) -> tuple["_Place", np.ndarray]:
        padded_1xTxM = np.zeros((1, FRAMES, piece_TxM.shape[1]), np.float16)
        padded_1xTxM[0, : len(piece_TxM)] = piece_TxM
        state, logits_1xSxV = step(self._params, at.state, padded_1xTxM, np.array([at.taken, end]), self._config)
        first = (at.taken - self._behind) // model.STRIDE
        last = min(first + FRAMES // model.STRIDE, model.output_frames(end))
        new_SxV = np.asarray(logits_1xSxV)[0, max(0, at.given - first) : max(0, last - first)]
        return _Place(state, at.taken + FRAMES, at.given + len(new_SxV)), new_SxV


class _Place(NamedTuple):
    state: State
    taken: int
    """Input frames."""
    given: int
    """Output frames."""


_ENDLESS = 2**30


@functools.partial(jax.jit, static_argnames="config")
def step(
    params: Params, state: State, features_1xTxM: jax.Array, place: jax.Array, config: ModelConfig
) -> tuple[State, jax.Array]:
    """Returns the state after `FRAMES` more frames, and their logits [1, S, V].

    `place` holds the number of the first frame and the length of the recording. The logits are of output frames from
    (number − 98) / 2; those outside the recording are 0.
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
