"""From costs to a recommendation: the table, the recommended variant, and its command line."""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence

from benchmarks import Table
from planning.costs import Cost
from planning.plan_options import GB, PlanOptions
from w2l_jax import config
from w2l_jax.errors import UserError
from w2l_jax.training.options import TrainOptions


def choose(costs: Sequence[Cost], plan: PlanOptions, utterances: int) -> tuple[Cost, Cost]:
    """The recommended variant and the one with the most updates.

    Recommended is the fastest variant of the lowest k that sees all data `plan.epochs` times within the hours, else the
    one that comes closest. Raises UserError if there is no time for a single update.
    """
    most = max(costs, key=lambda cost: cost.updates(plan.hours))
    if not most.updates(plan.hours):
        raise UserError(f"--hours={plan.hours:g}: not enough for one update of any variant that fits; give more")
    enough = [cost for cost in costs if cost.epochs(plan.hours, utterances) >= plan.epochs]
    return min(enough, key=lambda cost: (cost.k, -cost.updates(plan.hours)), default=most), most


def command(cost: Cost, plan: PlanOptions, start: TrainOptions, script: str) -> str:
    """The shell command that trains this variant for the planned hours."""
    hours = plan.hours - cost.fill_seconds / 3600
    steps = max(cost.updates(plan.hours), 1)
    options = config.changed(cost.options, {"steps": steps, "stop.max_hours": float(f"{hours:.4g}")})
    return shlex.join(["python", script, *_differences(options, start)])


def _differences(options: TrainOptions, start: TrainOptions, prefix: str = "--") -> Iterator[str]:
    for field in dataclasses.fields(options):
        value, default = getattr(options, field.name), getattr(start, field.name)
        if dataclasses.is_dataclass(value):
            yield from _differences(value, default, f"{prefix}{field.name}.")
        elif value != default:
            switch = f"{prefix}{field.name}" if value else f"{prefix}no_{field.name}"
            yield switch if isinstance(value, bool) else f"{prefix}{field.name}={value}"


def table(costs: Sequence[Cost], plan: PlanOptions, memory: int, utterances: int) -> Table:
    """All variants with their costs."""
    rows = []
    for cost in costs:
        options, fits = cost.options, cost.memory <= memory
        timed = cost.seconds > 0
        rows.append((
            cost.k, options.compute_dtype, "on" if options.memory.remat else "off",
            "yes" if options.freeze.cache_activations else "no", "yes" if options.memory.resident == "on" else "no",
            cost.microbatches, "yes" if fits else "no", cost.gflop,
            cost.memory / GB, cost.seconds if timed else "–", cost.updates(plan.hours) if timed else "–",
            cost.epochs(plan.hours, utterances) if timed else "–",
            cost.fill_seconds / 60 if timed and options.freeze.cache_activations else "–",
            cost.disk / GB if options.freeze.cache_activations else "–",
        ))  # fmt: skip
    columns = (
        "k", "dtype", "remat", "cached", "resident", "microbatches", "fits", "GFLOP", "GB", "seconds", "updates",
        "epochs", "minutes to fill", "GB on disk",
    )  # fmt: skip
    note = (
        "GFLOP and seconds are for an average update (on a CPU, timed with few utterances and scaled). GB is for the "
        "largest update: parameters, optimizer, temporaries, batches and resident features, or filling the cache if "
        "that is more; it excludes Python, JAX, the compiler and evaluation. Seconds exclude reading the data, which "
        "happens during the updates."
    )
    title = f"{plan.hours:g} hours with {memory / GB:.3g} GB: updates of {costs[0].options.batch_size} utterances"
    return Table(title, columns, tuple(rows), note)
