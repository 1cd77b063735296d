"""Train a network from scratch, or adapt another run's by freezing its lowest layers."""

import dataclasses
import signal
import sys
from pathlib import Path

import cli
import demo_corpus
import latest
from terminal import terminal
from w2l_jax import config, training
from w2l_jax.errors import UserError
from w2l_jax.run import Run
from w2l_jax.training import devices
from w2l_jax.training.options import FreezeOptions, TrainOptions

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ENGLISH = "runs/demo_english"
ADAPTING = {
    "init": "", "frozen_layers": "0", "reinitialize": False,
    **{f"freeze.{field.name}": field.default for field in dataclasses.fields(FreezeOptions)},
}  # fmt: skip
DESCRIPTION = """Train a speech recogniser with CTC, or adapt one to another language.

With neither --config nor --data.train the demonstration of configs/demo.toml runs; its corpus and English network are
made first if missing. With your own recordings:

  python launch/train.py --data.train=en.jsonl --data.dev=en_dev.jsonl
  python launch/train.py --init=runs/english_scratch --frozen_layers=8 --data.train=de.jsonl --data.dev=de_dev.jsonl

To resume an interrupted run: python launch/train.py --run=<folder> --resume
"""


def main(argv: list[str] | None = None) -> Path:
    """Parses options, makes missing parts of the demonstration, trains; returns the run folder."""
    given = cli.given(sys.argv[1:] if argv is None else argv)
    options = cli.parse(TrainOptions, argv, description=DESCRIPTION, fallback=_fallback)
    if options.from_scratch:  # on the command line it overrides a configuration's init
        options = config.changed(options, {name: value for name, value in ADAPTING.items() if name not in given})
    if not options.devices.distributed:
        return train(options)
    with devices.distributed(options.devices.distributed):  # not part of the run, which may be resumed elsewhere
        return train(config.changed(options, {"devices.distributed": ""}))


def _fallback(options: TrainOptions) -> str:
    """The default configuration: a resumed run's own, or the demonstration's."""
    if options.resume and options.run:
        own = Path(options.run) / "config.toml"
        if not own.is_file():
            raise UserError(f"--run={options.run}: no run to resume; start it without --resume")
        return str(own)
    if options.data.train:
        return ""
    demonstration = CONFIGS / "demo.toml"
    print(f"neither data nor a configuration given: this is the demonstration, {demonstration}", flush=True)
    return str(demonstration)


def train(options: TrainOptions) -> Path:
    """Trains with `options`, after making missing parts of the demonstration."""
    training.check(options)
    cli.use_compilation_cache()
    if Path(options.data.train).is_relative_to(demo_corpus.FOLDER) and not Path(options.data.train).exists():
        print(f"synthesising the demonstration corpus into {demo_corpus.FOLDER}", flush=True)
        with terminal() as screen:
            demo_corpus.make_corpus(demo_corpus.FOLDER, progress=screen.bar)
    if options.init == ENGLISH and not options.resume and not Run.complete(ENGLISH):
        resume = Run.exists(ENGLISH)
        print(f"{ENGLISH} is {'unfinished' if resume else 'missing'}: training it first", flush=True)
        english = config.load(TrainOptions, CONFIGS / "demo_english.toml")
        train(config.changed(english, {"run": ENGLISH, "resume": resume}))

    with terminal() as screen:

        def show(step: int, values: dict[str, float]) -> None:
            screen.bar(step, options.steps, f"training: loss {values['loss']:.2f}, step")

        job = training.create(options, lambda line: screen.report(cli.as_options(line)), screen.bar)
        if job.devices.first:
            latest.mark(job.run.folder)
        result = training.train(job, screen.report, show)
    print(f"{result.reason}: {job.run.folder}", flush=True)
    if result.signal:  # a code other than 0, so that nothing uses the network as if it were trained
        print(f"resume it: python launch/train.py --run={job.run.folder} --resume", flush=True)
        sys.exit(128 + signal.Signals[result.signal])
    if Run.complete(job.run.folder):
        print(f"decode it: python launch/decode.py --run={job.run.folder}", flush=True)
    return job.run.folder


if __name__ == "__main__":
    cli.run(main)
