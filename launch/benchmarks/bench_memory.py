"""FLOPs and bytes of an update for each k by the compiler's figures; nothing runs."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import BenchmarkOptions, Report, Table
from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Bucket
from w2l_jax.features import FRAME_SECONDS
from w2l_jax.training.certificate import Certificate, compile_step
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import StepConfig

FROZEN = (0, 6, 8, 9, 10)
_ALPHABET = preset("german")
OUTPUTS = _ALPHABET.size
MIB = 2**20


class Variant(NamedTuple):
    """One variant of the update: number of frozen layers, precision and `remat`."""

    frozen: int
    dtype: str
    remat: bool
    unfold: bool = False

    @property
    def cells(self) -> tuple[Any, ...]:
        """The columns `k`, `dtype` and `remat` of a table."""
        return self.frozen, self.dtype, "on" if self.remat else "off"


def variants(plain: bool = False) -> tuple[Variant, ...]:
    """Every k in each precision without and with `remat` (`plain`: one of each); k = 0 comes first in each of these."""
    dtypes, remats = (("float32",), (False,)) if plain else (("float32", "bfloat16"), (False, True))
    grid = itertools.product(dtypes, remats, FROZEN)
    return tuple(Variant(k, dtype, remat) for dtype, remat, k in grid)


def bucket(options: BenchmarkOptions) -> Bucket:
    """The padded shape of the utterances."""
    return Bucket(round(options.seconds / FRAME_SECONDS), options.labels)


def step_config(options: BenchmarkOptions, variant: Variant) -> StepConfig:
    """The options of the step for a variant."""
    return StepConfig(
        model=options.model,
        frozen=frozenset(range(1, variant.frozen + 1)),
        dtype=jnp.dtype(variant.dtype),
        remat=variant.remat,
        unfold=variant.unfold,
    )


@functools.cache  # both subjects use the same executables
def compiled(options: BenchmarkOptions, variant: Variant) -> tuple[Any, Certificate]:
    """The executable of an update and its certificate."""
    config = step_config(options, variant)
    optimizer = make_optimizer(TrainOptions(), config.frozen)
    return compile_step(optimizer, config, options.batch_size, bucket(options), _ALPHABET)


def compiled_variants(options: BenchmarkOptions, report: Report) -> Iterator[tuple[Variant, Any, Certificate]]:
    """Compiles the update of each variant in turn."""
    for variant in variants(options.plain):
        executable, certificate = compiled(options, variant)
        report(
            f"k = {variant.frozen}, {variant.dtype}, remat {variant.cells[2]}: "
            f"{certificate.flops / 1e9:,.1f} GFLOP, {certificate.temporary_bytes / MIB:,.1f} MiB temporary"
        )
        yield variant, executable, certificate


def title(options: BenchmarkOptions) -> str:
    """The shapes of the update, for the head of a table."""
    return (
        f"one update of {options.batch_size} utterances of {options.seconds:g} s, {options.labels} labels, "
        f"width {options.model.width} and {options.model.top_width}"
    )


def note() -> str:
    """A note on bfloat16 where it is not native."""
    if jax.default_backend() != "cpu":
        return ""
    return "bfloat16 is emulated on most CPUs, with float32 copies: its bytes and seconds here do not apply to a GPU."


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """One table: FLOPs and bytes for each k, precision and `remat`, with ratios to k = 0 of the same options."""
    rows, base = [], None
    for variant, _, certificate in compiled_variants(options, report):
        base = certificate if variant.frozen == 0 else base
        rows.append(
            (
                *variant.cells,
                certificate.flops / 1e9,
                certificate.flops / base.flops,
                certificate.temporary_bytes / MIB,
                certificate.temporary_bytes / base.temporary_bytes,
                (certificate.argument_bytes - certificate.reused_bytes) / MIB,
                certificate.reused_bytes / MIB,
            )
        )
    columns = ("k", "dtype", "remat", "GFLOP", "to k = 0", "temporary MiB", "to k = 0", "held MiB", "updated MiB")
    held = "Held: batch and frozen layers; updated: trained layers and their optimizer state, in place."
    return (Table(f"Memory: {title(options)}", columns, tuple(rows), f"{held} {note()}".strip()),)
