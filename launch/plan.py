"""Plan a training run within a budget of memory and hours."""

import os
import sys
from pathlib import Path

import cli
from planning import choice, costs, timing
from planning import plan_options as options
from planning.costs import SOME_RUN
from planning.plan_options import GB, PlanOptions
from w2l_jax import activations

TRAIN = Path(__file__).resolve().parent / "train.py"
DESCRIPTION = """Find out what a budget of memory and hours allows, before training.

For every number k of frozen layers the update is compiled for the shapes of your data, without and with cached
activations, in as few microbatches as fit the memory. Variants that fit are timed briefly. Then a table is printed, and
the command line of the lowest k that sees all data --epochs times within the hours:

  python launch/plan.py --memory=6GB --hours=2 --data=data/german/train --init=runs/english_scratch
"""


def main(argv: list[str] | None = None) -> None:
    plan = cli.parse(PlanOptions, argv, description=DESCRIPTION)
    memory = options.parse_size(plan.memory) if plan.memory else options.available_memory()
    start, common = options.starting_point(plan)
    cli.use_compilation_cache()
    work = costs.look_at(common, report)
    utterances, room = len(work.source.dataset), activations.free_bytes(Path(common.data.cache))
    variants = costs.forecasts(plan, common, work, memory, report)
    for i, cost in enumerate(variants):
        if cost.memory > memory:
            continue
        if cost.disk > room:
            report(f"skipped: {cost.text()}: {cost.disk / GB:.3g} GB of activations, {room / GB:.3g} GB are free")
            continue
        variants[i] = timing.timed(cost, work)
        report(f"timed: {cost.text()}: {variants[i].seconds:.3g} s per update")
    print(f"{choice.table(variants, plan, memory, utterances).markdown()}\n")
    best, most = choice.choose(variants, plan, utterances)
    seen = best.epochs(plan.hours, utterances)
    if seen >= plan.epochs:
        print(
            f"Recommended, the lowest k that sees all data {plan.epochs:g} times in {plan.hours:g} h ({seen:,.1f}):\n"
        )
    else:
        print(f"Nothing sees all data {plan.epochs:g} times in {plan.hours:g} h; this comes closest ({seen:.3g}):\n")
    if plan.from_scratch and best.k + most.k:
        print(f"({SOME_RUN} is a run of a network of this size.)\n")
    script = os.path.relpath(TRAIN)
    print(f"  {choice.command(best, plan, start, script)}\n")
    if most != best:
        print(f"Most updates, {most.updates(plan.hours):,} instead of {best.updates(plan.hours):,}:\n")
        print(f"  {choice.command(most, plan, start, script)}")


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
