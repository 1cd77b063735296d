"""Decode a run on data, greedily and with a language model, and report error rates."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import cli
import decode_data
import demo_corpus
import latest
import results
import w2l_jax
from lm_building import of_run
from pages import comparison
from pages import decoding_page as page
from terminal import terminal
from w2l_jax import files
from w2l_jax.corpora import Utterance, manifest
from w2l_jax.dataset.batches import Source
from w2l_jax.decoding import decoder_config
from w2l_jax.decoding.decoder_config import DecoderConfig
from w2l_jax.errors import UserError
from w2l_jax.files import one_at_a_time, write_atomically
from w2l_jax.recognizer import Recognizer
from w2l_jax.run import Run
from w2l_jax.training.options import DataOptions
from w2l_jax.workers import usable_cores

DESCRIPTION = """Decode a run on a manifest or a prepared dataset.

Without options the last trained run is decoded on its own dev data. If no run exists, --data is decoded with the
included English network; without --data the demonstration of configs/demo.toml is trained first. A run without a
language model gets one built from its training transcripts, without the decoded utterances.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    run: str = latest.LATEST
    """Run folder, .safetensors file or included network (default: the last trained run; if none exists, `english` with
    --data, else the demonstration).
    """
    data: str = ""
    """Manifest or prepared folder (default: the run's dev data)."""
    out: str = ""
    """JSON-lines file to write, one utterance per line (default: <run>/decode/<data>.jsonl, or
    results/<file>/decode/<data>.jsonl if --run is not a run folder).
    """
    checkpoint: str = "best"
    """Checkpoint: best, last or a stored step."""
    lm: str = ""
    """Folder of a language model, or none (greedy only, unless --beam_width is given; default: the run's own)."""
    text: str = ""
    """Text to build a language model from if the run has none (default: its training transcripts)."""
    beam_width: int | None = None
    """Beam width; 0: greedy only (default: the run's decoder.toml, or the paper's 100)."""
    lm_weight: float | None = None
    """Weight of the language model (default: the run's decoder.toml, or the paper's 0.8)."""
    word_bonus: float | None = None
    """Score of each word in the language model's vocabulary (default: the run's decoder.toml, or the paper's 2.3)."""
    table: bool = False
    """Print the paper's Table 3 in Markdown: greedy, beam without and with language model."""
    nbest: int = 0
    """Hypotheses to write per utterance, with times and confidences of words (0: none)."""
    report: str = ""
    """HTML file to write, with error rates, frequent errors, and utterances to look at and listen to."""
    report_utterances: int = 20
    """Utterances in the report: a quarter each worst, median, best and random."""
    recordings: str = ""
    """Manifest of the recordings for the report's sound, if --data is a prepared folder."""
    seed: int = 0
    """Seed of the report's random utterances."""
    unknown_characters: str = ""
    """Transcripts outside the run's alphabet: error or drop_utterance (default: as in the run's training)."""
    batch_size: int = 64
    """Batch size of the network."""
    workers: int = 0
    """Search processes (0: one per core)."""
    worst: int = 5
    """Worst utterances to print."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    cli.use_compilation_cache()
    if options.data:
        options = dataclasses.replace(options, run=latest.choose(options.run))
    elif not Run.exists(options.run) and options.run == Options.run:
        import train

        print("no run exists: training the demonstration first", flush=True)
        options = dataclasses.replace(options, run=str(train.main(["--frozen_layers=8"])))
    decode(options)


def decode(options: Options) -> list[results.Result]:
    """Decodes as `options` say; writes the utterances, prints the tables and returns the results."""
    import jax

    from w2l_jax.inference import predict

    recognizer = w2l_jax.load(options.run, options.checkpoint, lm="none")
    run = Run.open(options.run) if Run.exists(options.run) else None
    own = decode_data.options_of(run)
    data = options.data or own["dev"]
    if not data:
        raise UserError(f"{options.run} has no dev data: give --data")
    out = Path(options.out or latest.outputs(options.run) / "decode" / f"{Path(data).stem}.jsonl")
    if out.is_dir():
        raise UserError(f"--out={out}: a folder; name the JSON-lines file to write")
    recordings = _recordings(options, data)
    if Path(options.report or "report.html").is_dir():
        raise UserError(f"{options.report} is a folder; name the HTML file to write, such as --report=report.html")
    unknown = options.unknown_characters or own["unknown_characters"]
    with terminal() as screen:
        dataset = decode_data.open_data(recognizer, own, data, unknown, screen.bar, screen.report)
        overrides = {name: getattr(options, name) for name in ("beam_width", "lm_weight", "word_bonus")}
        if run:
            held_out = decode_data.held_out(recognizer, own, dataset, screen.bar)
            text = options.text or demo_corpus.text_beside(own["train"])
            decoder = of_run.resolve(run, options.lm, overrides, held_out, screen.report, text)
        else:
            decoder = decoder_config.override(decoder_config.of_file(recognizer.decoder, options.lm), overrides)
        if options.table and not decoder.beam_width:
            raise UserError("--table compares greedy and beam search: give --lm=<folder> or --beam_width")
        source = Source.create(dataset, recognizer.alphabet, DataOptions.buckets, options.batch_size)
        params = jax.device_put(recognizer.params)
        predictions = predict(params, source, recognizer.model, batch_size=options.batch_size)
        decoded = []
        with _pool(recognizer, decoder, options.workers) as pool:
            without_lm: dict[int, str] = {}
            if options.table and decoder.lm:
                predictions = list(predictions)
                for index, text in results.without_lm(predictions, pool):
                    without_lm[index] = text
                    screen.bar(len(without_lm), len(dataset), "decoding without language model")
            nbest = options.nbest if options.nbest or options.report else None
            details = {"nbest": nbest, "calibration": decoder.calibration}
            for result in results.decode(predictions, source, recognizer.alphabet, pool, without_lm, **details):
                decoded.append(result)
                screen.bar(len(decoded), len(dataset), "decoding")
    facts = _facts(options, recognizer, run, decoder, data, dataset.fingerprint)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print(results.table(decoded))
    if options.table:
        print(f"\n{comparison.markdown(results.searches(decoded))}")
    if options.worst:
        print(f"\nworst utterances\n{results.worst(decoded, options.worst)}")
    try:
        _write(decoded, out)
        print(f"every utterance: {out}")
    except OSError as error:
        if options.out:
            raise
        print(f"note: {error.filename} cannot be written ({error.strerror}); --out names another file", file=sys.stderr)
    if options.report:
        examples = page.examples(decoded, dataset, params, recognizer.model, options.report_utterances, options.seed)
        content = page.build(
            f"{Path(options.run).name} on {Path(data).stem}", facts, decoded, examples, recognizer.alphabet, recordings
        )
        Path(options.report).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(options.report), content)
        print(f"report: {options.report} ({len(content.encode()) / 1e6:.1f} MB)")
    return decoded


def _write(decoded: list[results.Result], out: Path) -> None:
    """Writes every utterance to `out`, and the error rates beside it."""
    rows = [
        {k: dataclasses.asdict(v) if k in results.SEARCHES else v for k, v in r.items()} for r in results.rows(decoded)
    ]
    with one_at_a_time(out):  # so that both files come from the same command
        write_atomically(out, "".join(json.dumps(r.record(), ensure_ascii=False) + "\n" for r in decoded))
        write_atomically(out.with_suffix(".summary.json"), json.dumps(rows, indent=1, ensure_ascii=False))


def _recordings(options: Options, data: str) -> dict[str, Utterance]:
    """The recording of each utterance, for the report."""
    path = options.recordings or (data if data.endswith((".jsonl", ".json")) else "")
    return {u.id: u for u in manifest.read(path)} if options.report and path else {}


def _pool(recognizer: Recognizer, decoder: DecoderConfig, workers: int) -> contextlib.AbstractContextManager:
    if not decoder.beam_width:
        return contextlib.nullcontext()
    from w2l_jax.decoding.pool import DecoderPool  # kenlm and numba, for a search only

    return DecoderPool(recognizer.alphabet, decoder.lm or None, decoder.beam, workers or usable_cores())


def _trained_on(text: str) -> tuple[str, list[str]]:
    """The fingerprint of the training data, and the speakers of dev data that are in it."""
    stored = json.loads(text)
    return str(stored["train"]), list(stored["speaker_overlap"])


def _facts(
    options: Options, recognizer: Recognizer, run: Run | None, decoder: DecoderConfig, data: str, fingerprint: str
) -> dict[str, str]:
    facts = {"run": f"{latest.described(options.run)}, checkpoint {options.checkpoint} (step {recognizer.step})"}
    if run and not Run.complete(run.folder):
        facts["unfinished"] = f"stopped, or still in training (resume it: launch/train.py --run={options.run} --resume)"
    facts["data"] = data
    if decoder.beam_width:
        facts |= {"beam": str(decoder.beam_width), "language model": decoder.lm or "none"}
    if decoder.lm:
        facts["weights"] = f"w_lm {decoder.lm_weight:g}, w_valid_word {decoder.word_bonus:g}"
        facts["tuned on"] = decoder.tuned or "nothing (launch/tune_decoder.py)"
    trained_on, overlap = files.read(run.folder / "data.json", _trained_on) if run else ("", [])
    if fingerprint == trained_on:
        facts["note"] = "these are the training data, so the error rates are too low"
    elif overlap and data == decode_data.options_of(run)["dev"]:
        facts["note"] = f"speakers also in the training data, as --allow_speaker_overlap allowed: {', '.join(overlap)}"
    return facts


if __name__ == "__main__":
    cli.run(main)
