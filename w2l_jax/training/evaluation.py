"""Greedy evaluation of a network on a dataset."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from w2l_jax import metrics
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.batches import Source
from w2l_jax.decoding.greedy import greedy
from w2l_jax.inference import predict
from w2l_jax.model import ModelConfig, Params

_SAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Greedy decoding of a dataset; rates as in `metrics.rates`, loss the mean over feasible utterances (nats)."""

    loss: float
    rates: metrics.Rates
    infeasible: int
    samples: list[dict[str, str]]


def evaluate(
    params: Params,
    source: Source,
    alphabet: Alphabet,
    config: ModelConfig,
    *,
    batch_size: int,
    dtype: Any,
    place: Callable[[Any], Any] = jax.device_put,
) -> Evaluation:
    """Evaluates `params` on `source`; the samples are the same utterances each time, spread over its lengths.

    `place` moves each batch to the devices of `params`.
    """
    texts: dict[int, str] = {}
    losses, errors = [], []
    common = {"batch_size": batch_size, "dtype": dtype, "place": place, "with_logits": False}
    for prediction in predict(params, source, config, **common):
        text = texts[prediction.index] = greedy(prediction.path_S, alphabet)
        errors.append(metrics.utterance_errors(source.dataset.entries[prediction.index].transcript, text))
        if prediction.feasible:
            losses.append(prediction.loss)
    by_length = list(texts)
    shown = dict.fromkeys(by_length[(2 * i + 1) * len(by_length) // (2 * _SAMPLES)] for i in range(_SAMPLES))
    samples = [
        {"id": entry.id, "expected": entry.transcript, "predicted": texts[i]}
        for i in shown
        for entry in [source.dataset.entries[i]]
    ]
    mean = sum(losses) / len(losses) if losses else math.nan
    return Evaluation(mean, metrics.rates(errors), len(texts) - len(losses), samples)
