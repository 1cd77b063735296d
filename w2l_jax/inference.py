"""A trained network on data: logits and losses per utterance, for evaluation and decoding."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax import losses, model
from w2l_jax.dataset.batches import Batch, Source, prefetch
from w2l_jax.model import ModelConfig, Params


class Prediction(NamedTuple):
    """One utterance: its index in the dataset, logits [S, V] (float32), loss in nats (0 where infeasible).

    `path_S` is the most likely label of every frame under the network's criterion. Logits are None if not requested.
    """

    index: int
    logits_SxV: np.ndarray | None
    path_S: np.ndarray
    loss: float
    feasible: bool


@functools.partial(jax.jit, static_argnames=("config", "dtype", "first"))
def forward(
    params: Params, batch: Batch, config: ModelConfig, dtype: Any, first: int = 1
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Logits [B, S, V], best paths [B, S], losses [B], feasibility [B] of a batch; with `first` > 1, of activations."""
    logits_BxSxV = model.apply(params, batch.features_BxTxM, batch.frames_B, config, first=first, dtype=dtype)
    target = (model.output_frames(batch.frames_B), batch.labels_BxL, batch.label_lengths_B)
    criterion = losses.criterion_of(params)
    path_BxS = criterion.best_path(logits_BxSxV, target[0])
    return logits_BxSxV, path_BxS, criterion.loss(logits_BxSxV, *target), criterion.feasible(logits_BxSxV, *target)


def logits(params: Params, features_TxM: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Logits [S, V] (float32, NumPy) of one recording's features, computed as `stream` does."""
    return np.concatenate(list(stream(params, [features_TxM], config)))


def stream(
    params: Params, features: Iterable[np.ndarray], config: ModelConfig, window: int = 4096
) -> Iterator[np.ndarray]:
    """Yields the logits [S, V] (float32, NumPy) of a recording of any length, whose features [T, M] come in pieces.

    They equal those of one pass over the whole recording. The network runs on windows of `window` input frames (33 s;
    even, at least 196) that overlap by the receptive field and start at even frames, because of layer 1's stride. All
    windows have one shape; a recording that fits into one window is padded to a multiple of about two seconds, so that
    few lengths are compiled. Padding changes nothing.
    """
    before, after = (frames + frames % model.STRIDE for frames in model.receptive_field(config))
    rest_TxM, context = None, 0
    for piece_TxM in features:
        rest_TxM = piece_TxM if rest_TxM is None else np.concatenate([rest_TxM, piece_TxM])
        while len(rest_TxM) > window:
            yield _window(params, rest_TxM[:window], window, config)[context : (window - after) // model.STRIDE]
            rest_TxM, context = rest_TxM[window - after - before :], before // model.STRIDE
    if rest_TxM is not None:
        size = window if context else min(window, -(-len(rest_TxM) // _PAD) * _PAD)
        yield _window(params, rest_TxM, size, config)[context:]


_PAD = 256


def _window(params: Params, features_TxM: np.ndarray, size: int, config: ModelConfig) -> np.ndarray:
    frames, mels = features_TxM.shape
    padded_1xTxM = np.zeros((1, size, mels), np.float16)
    padded_1xTxM[0, :frames] = features_TxM
    return np.asarray(_apply(params, padded_1xTxM, np.array([frames]), config))[0, : model.output_frames(frames)]


_apply = jax.jit(model.apply, static_argnums=3)


def best_path(params: Params, logits_SxV: np.ndarray) -> np.ndarray:
    """The most likely label of every frame [S] of one recording's logits, under the network's criterion."""
    frames, outputs = logits_SxV.shape
    padded_1xSxV = np.zeros((1, -(-frames // _PAD) * _PAD, outputs), np.float32)
    padded_1xSxV[0, :frames] = logits_SxV
    own = {name: leaf for name, leaf in params.items() if name == losses.TRANSITIONS}
    return np.asarray(_best_path(own, padded_1xSxV, np.array([frames])))[0, :frames]


@jax.jit
def _best_path(params: Params, logits_BxSxV, frames_B):
    return losses.criterion_of(params).best_path(logits_BxSxV, frames_B)


def predict(
    params: Params,
    source: Source,
    config: ModelConfig,
    *,
    batch_size: int = 64,
    dtype: Any = jnp.float32,
    place: Callable[[Batch], Batch] = jax.device_put,
    with_logits: bool = True,
) -> Iterator[Prediction]:
    """Yields a Prediction for every utterance of `source`, shortest first; `place` brings a batch to `params`.

    While the caller works on one batch, the device computes the next. Layers whose output is stored are not run.
    Without `with_logits` the logits stay on the device.
    """
    first = source.dataset.record.layer + 1
    groups = source.in_order_of_length(batch_size)
    placed = prefetch(groups, lambda indices: (indices, place(source.batch(indices, batch_size))))
    running = None
    for item in itertools.chain(placed, [None]):
        ready = running and (running[0], jax.device_get(running[1]))
        running = item and (item[0], forward(params, item[1], config, dtype, first)[0 if with_logits else 1 :])
        if ready:
            yield from _predictions(source, *ready)


def _predictions(source: Source, indices: np.ndarray, outputs: Sequence[np.ndarray]) -> Iterator[Prediction]:
    *logits, path, loss, possible = outputs
    for row, index in enumerate(indices):
        frames = model.output_frames(source.dataset.entries[index].frames)
        scores = float(loss[row]), bool(possible[row])
        logits_SxV = logits[0][row, :frames] if logits else None
        yield Prediction(int(index), logits_SxV, path[row, :frames], *scores)
