"""Decode a run on data, greedily and with a language model, and report error rates."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

from w2l_jax import config
from w2l_jax.checkpoint import LATEST, SHIPPED, Run, write_atomically
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.prepare import PrepareConfig, custom_characters, open_or_prepare
from w2l_jax.dataset.store import Dataset
from w2l_jax.decoding import results, settings
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.errors import UserError
from w2l_jax.terminal import Terminal, terminal

DESCRIPTION = """Decode a run on a manifest or a prepared dataset.

Without options the last trained run is decoded on its own dev data. Where there is no run at all, --data is decoded
with the English network of models/english, and without --data the demonstration of configs/demo.toml is trained
first. A run without a language model gets one built from its training transcripts, the decoded utterances held out.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    run: str = LATEST
    """Run folder (default: the last trained run, else the demonstration, or models/english where --data is given)."""
    data: str = ""
    """Manifest or prepared folder (default: the run's dev data)."""
    out: str = ""
    """JSON-lines file, an utterance a line (default: <run>/decode/<data>.jsonl)."""
    checkpoint: str = "best"
    """Which checkpoint: best, last or a kept step."""
    lm: str = ""
    """Folder of a language model, or none (default: the run's own)."""
    beam_width: int | None = None
    """Hypotheses kept (default: the run's decoder.toml, or the paper's 100)."""
    lm_weight: float | None = None
    """Weight of the language model (the paper's 0.8)."""
    word_bonus: float | None = None
    """Score of each word in the language model's vocabulary (the paper's 2.3)."""
    unknown_characters: str = "error"
    """What to do with a transcript outside the run's alphabet: error or drop_utterance."""
    batch_size: int = 64
    """Utterances that go through the network together."""
    workers: int = 0
    """Processes that search (0: one per core)."""
    worst: int = 5
    """Worst utterances to print."""


def main(argv: list[str] | None = None) -> None:
    options = config.parse(Options, argv, description=DESCRIPTION)
    config.use_compilation_cache()
    if options.data:
        options = dataclasses.replace(options, run=str(Run.default(options.run)))
    elif not Run.exists(options.run) and options.run == Options.run:
        import train

        print("there is no run yet: training the demonstration first", flush=True)
        options = dataclasses.replace(options, run=str(train.main(["--frozen_layers=8"])))
    decode(options)


def decode(options: Options) -> list[results.Result]:
    """Decodes as `options` say; writes the utterances, prints the tables and returns the results."""
    import jax

    from w2l_jax.inference import predict

    run = Run.open(options.run)
    trained = run.config()
    data = options.data or trained["data"]["dev"]
    if not data:
        raise UserError(f"{options.run} has no dev data of its own: give --data")
    with terminal() as screen:
        dataset = _dataset(run, data, trained, options, screen)
        given = {name: getattr(options, name) for name in ("beam_width", "lm_weight", "word_bonus")}
        chosen = settings.resolve(
            run, options.lm, given, _held_out(run, dataset, trained, options, screen), screen.report
        )
        source = Source.create(dataset, run.alphabet, trained["data"]["buckets"], options.batch_size)
        pool = (
            DecoderPool(run.alphabet, chosen.lm, chosen.beam, options.workers or os.cpu_count()) if chosen.lm else None
        )
        params = jax.device_put(run.restore_params(options.checkpoint))
        predictions = predict(params, source, run.model, batch_size=options.batch_size)
        found = []
        with pool or contextlib.nullcontext():
            for result in results.decode(predictions, source, run.alphabet, pool):
                found.append(result)
                screen.bar(len(found), len(dataset), "decoding")
    name = Path(data).stem
    # What comes along stays as it came.
    folder = Path("runs/english") if run.folder == SHIPPED else run.folder
    out = Path(options.out or folder / "decode" / f"{name}.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, "".join(json.dumps(r.record(), ensure_ascii=False) + "\n" for r in found))
    rows = [
        {k: dataclasses.asdict(v) if k in ("greedy", "beam") else v for k, v in r.items()} for r in results.rows(found)
    ]
    write_atomically(out.with_suffix(".summary.json"), json.dumps(rows, indent=1, ensure_ascii=False))
    _print(options, run, chosen, data, trained, found)
    print(f"every utterance: {out}")
    return found


def _print(options: Options, run: Run, chosen, data: str, trained, found: list[results.Result]) -> None:
    print(f"{run.folder}, checkpoint {options.checkpoint} (step {run.step_of(options.checkpoint)}), on {data}")
    if chosen.lm:
        beam = f"beam {chosen.beam_width}, w_lm {chosen.lm_weight}, w_valid_word {chosen.word_bonus}"
        print(f"language model {chosen.lm}, {beam}")
    overlap = json.loads((run.folder / "data.json").read_text())["speaker_overlap"]
    if overlap and data == trained["data"]["dev"]:
        print(f"note: speakers also in the training data, as --allow_speaker_overlap allowed: {', '.join(overlap)}")
    print(results.table(found))
    if options.worst:
        print(f"\nworst utterances\n{results.worst(found, options.worst)}")


def _dataset(run: Run, data: str, trained, options: Options, screen: Terminal) -> Dataset:
    group = trained["data"]
    prepare = PrepareConfig(
        language=group["language"],
        max_seconds=group["max_seconds"],
        unknown_characters=options.unknown_characters,
        features=run.features,
        alphabet=custom_characters(run.alphabet, group["language"]),
    )
    return open_or_prepare(data, Path(group["cache"]), prepare, progress=screen.bar)


def _held_out(run: Run, dataset: Dataset, trained, options: Options, screen: Terminal) -> set[str]:
    """Ids that no language model of this run may learn from: its dev data and what is decoded."""
    ids = {entry.id for entry in dataset.entries}
    dev = trained["data"]["dev"]
    if dev and options.data and Path(dev).exists():
        loose = dataclasses.replace(options, unknown_characters="drop_utterance")
        ids |= {entry.id for entry in _dataset(run, dev, trained, loose, screen).entries}
    return ids


if __name__ == "__main__":
    config.run(main)
