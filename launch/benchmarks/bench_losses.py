"""The criteria compared: seconds and temporaries of loss and gradient, and the error of gradients."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import BenchmarkOptions, Report, Table, interleaved
from w2l_jax import losses
from w2l_jax.features import OUTPUT_SECONDS
from w2l_jax.losses import asg

_OUTPUTS = 33
_COMPARED = 8  # utterances whose gradients are computed in float64 too
_COLUMNS = ("criterion", "milliseconds", "× optax", "temporaries (MB)", "× optax", "gradient error", "optax's ÷ this")


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """Loss and gradient by logits [B, S, 33] of every criterion, on random logits and targets."""
    logits, *target = case(options)
    transitions = jnp.array(np.random.default_rng(1).standard_normal((_OUTPUTS, _OUTPUTS)), jnp.float32)
    expected = [
        ctc_gradient(*(np.asarray(x[i]) for x in (logits, *target))) for i in range(min(_COMPARED, len(logits)))
    ]
    totals = {
        "CTC, optax": _optax,
        "CTC, ours": lambda x, *target: losses.ctc_loss(x, *target).sum(),
        "ASG": lambda x, *target: asg.asg_loss(x, transitions, *target).sum(),
    }
    calls, megabytes = {}, {}
    for name, total in totals.items():
        report(f"compiling {name}")
        compiled = jax.jit(jax.value_and_grad(total)).lower(logits, *target).compile()
        megabytes[name] = compiled.memory_analysis().temp_size_in_bytes / 1e6
        calls[name] = functools.partial(_jax_gradient, compiled, logits, *target)
    note = f"{logits.shape} logits, float32; gradient error: the largest against float64, {len(expected)} utterances."
    try:
        calls["CTC, torch"] = _torch(logits, *target)
    except ImportError:
        note += " torch is not installed: pip install torch to see it here."
    errors = {name: _error(call(), expected) for name, call in calls.items() if name.startswith("CTC")}
    report("measuring")
    seconds = interleaved(calls, options.repetitions)
    rows = [
        (
            name,
            1e3 * seconds[name],
            seconds[name] / seconds["CTC, optax"],
            *((megabytes[name], megabytes[name] / megabytes["CTC, optax"]) if name in megabytes else ("–", "–")),
            *((errors[name], errors["CTC, optax"] / errors[name]) if name in errors else ("–", "–")),
        )
        for name in calls
    ]
    return [Table("Losses with their gradients", _COLUMNS, tuple(rows), note)]


def case(options: BenchmarkOptions) -> tuple[jax.Array, ...]:
    """Logits [B, S, V], output frames, labels and label lengths; targets fill half to all of the room in the batch."""
    rng = np.random.default_rng(0)
    rows, frames = options.batch_size, max(int(options.seconds / OUTPUT_SECONDS), 2)
    longest = min(options.labels, frames // 2)
    # No two equal neighbours, so that ASG has the same targets.
    steps = rng.integers(1, _OUTPUTS - 1, (rows, options.labels))
    labels = 1 + np.cumsum(steps, axis=1) % (_OUTPUTS - 1)
    return (
        jnp.array(2 * rng.standard_normal((rows, frames, _OUTPUTS)), jnp.float32),
        jnp.array(rng.integers(frames - frames // 5, frames + 1, rows)),
        jnp.array(labels),
        jnp.array(rng.integers((longest + 1) // 2, longest + 1, rows)),
    )


def ctc_gradient(logits_SxV: np.ndarray, frames: int, labels_L: np.ndarray, length: int) -> np.ndarray:
    """The gradient [S, V] of CTC's loss in float64, from sums of logarithms (Graves et al. 2006, eq. 6 to 16)."""
    logp = logits_SxV[:frames].astype(np.float64)
    logp -= np.logaddexp.reduce(logp, axis=1, keepdims=True)
    states_N = np.zeros(2 * length + 1, int)
    states_N[1::2] = labels_L[:length]
    emitted = logp[:, states_N]
    alpha, beta = _sums(emitted, states_N), _sums(emitted[::-1, ::-1], states_N[::-1])[::-1, ::-1]
    occupancy = np.exp(alpha + beta - emitted - np.logaddexp.reduce(alpha[-1, -2:]))
    gradient_SxV = np.zeros(logits_SxV.shape)
    gradient_SxV[:frames] = np.exp(logp) - occupancy @ np.eye(logits_SxV.shape[1])[states_N]
    return gradient_SxV


def _sums(emitted_SxN: np.ndarray, states_N: np.ndarray) -> np.ndarray:
    skips_N = np.r_[False, False, (states_N[2:] != 0) & (states_N[2:] != states_N[:-2])][: len(states_N)]
    rows = [np.where(np.arange(len(states_N)) < 2, emitted_SxN[0], -np.inf)]
    for emitted_N in emitted_SxN[1:]:
        before = np.r_[-np.inf, -np.inf, rows[-1]]
        skipped = np.where(skips_N, before[:-2], -np.inf)
        rows.append(np.logaddexp(np.logaddexp(before[2:], before[1:-1]), skipped) + emitted_N)
    return np.array(rows)


def _optax(logits: jax.Array, frames: jax.Array, labels: jax.Array, lengths: jax.Array) -> jax.Array:
    frame_padding = (jnp.arange(logits.shape[1]) >= frames[:, None]).astype(jnp.float32)
    label_padding = (jnp.arange(labels.shape[1]) >= lengths[:, None]).astype(jnp.float32)
    return optax.ctc_loss(logits, frame_padding, labels, label_padding).sum()


def _jax_gradient(compiled: Any, *arguments: jax.Array) -> np.ndarray:
    return np.asarray(jax.block_until_ready(compiled(*arguments))[1])


def _torch(logits: jax.Array, frames: jax.Array, labels: jax.Array, lengths: jax.Array) -> Callable[[], np.ndarray]:
    import torch

    scores = torch.tensor(np.asarray(logits), requires_grad=True)
    target = [torch.tensor(np.asarray(x), dtype=torch.long) for x in (labels, frames, lengths)]

    def gradient() -> np.ndarray:
        logp = torch.log_softmax(scores, dim=-1).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(logp, *target, reduction="sum")
        return torch.autograd.grad(loss, scores)[0].numpy()

    return gradient


def _error(gradient_BxSxV: np.ndarray, expected: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(mine - right).max()) for mine, right in zip(gradient_BxSxV, expected, strict=False))
