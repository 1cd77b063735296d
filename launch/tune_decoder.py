"""Find the weights of a run's language model by local search, as the paper did."""

import dataclasses
from pathlib import Path

import calibration
import cli
import decode_data
import tuning
import w2l_jax
from latest import LATEST
from lm_building import of_run
from pages import comparison
from pages import decoding_figures as figures
from pages import html as report
from terminal import Terminal, terminal
from w2l_jax.decoding import confidence, decoder_config
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.errors import UserError
from w2l_jax.files import locked
from w2l_jax.run import Run
from w2l_jax.workers import usable_cores

DESCRIPTION = """Find the weights of a run's language model by local search, as the paper did.

The network's logits are computed once and stored. Then beam searches are tried on some utterances of --data: the
paper's weights, a coarse grid over both, and Gaussian steps from one of the ten best. The weights with the lowest LER +
WER (means over utterances, as in the paper) go to the run's decoder.toml, which decode.py reads, with the calibration
of word confidences. The unused utterances show how much of the gain is real. Interrupted, or given more --trials, the
same command resumes without repeating any.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    run: str = LATEST
    """Run folder (default: the last trained run)."""
    data: str = ""
    """Manifest or prepared folder, not the one to report results on (default: the run's dev data)."""
    out: str = ""
    """Folder for logits, trials and plot (default: <run>/tune/<data>)."""
    checkpoint: str = "best"
    """Checkpoint: best, last or a stored step."""
    lm: str = ""
    """Folder of a language model (default: the run's own)."""
    trials: int = 200
    """Searches to try, including the grid's 26."""
    utterances: int = 100
    """Utterances to try them on, chosen at random (0: all)."""
    beams: tuple[int, ...] = (25, 50, 100)
    """Beam widths to choose from; the grid uses the narrowest."""
    seed: int = 0
    """Seed of the utterances and steps."""
    unknown_characters: str = ""
    """Transcripts outside the run's alphabet: error or drop_utterance (default: as in the run's training)."""
    batch_size: int = 64
    """Batch size of the network."""
    workers: int = 0
    """Search processes (0: one per core)."""

    def __post_init__(self):
        if self.trials < 1 or self.utterances < 0:
            raise UserError(f"trials is {self.trials}, utterances {self.utterances}; at least 1 trial, 0 for all")
        if not self.beams or min(self.beams) < 1:
            raise UserError(f"beams is {self.beams}; it names widths of at least 1, such as 25 50 100")
        if self.lm == "none":
            raise UserError("without a language model there are no weights to tune; give --lm=<folder>")


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    cli.use_compilation_cache()
    run = Run.open(options.run)
    with terminal() as screen:
        tune(run, options, screen)


def tune(run: Run, options: Options, screen: Terminal) -> None:
    """Tunes by `options`; writes trials, plot and `decoder.toml`, and prints the best."""
    recognizer, own = w2l_jax.load(run.folder, options.checkpoint, lm="none"), decode_data.options_of(run)
    data = options.data or own["dev"]
    if not data:
        raise UserError(f"{run.folder} has no dev data: give --data")
    name = Path(data).stem
    out = Path(options.out or run.folder / "tune" / name)
    with locked(out, f"{out}: another process is tuning there"):
        _tune(run, recognizer, data, out, options, screen)


def _tune(run: Run, recognizer: w2l_jax.Recognizer, data: str, out: Path, options: Options, screen: Terminal) -> None:
    name, own = Path(data).stem, decode_data.options_of(run)
    unknown = options.unknown_characters or own["unknown_characters"]
    dataset = decode_data.open_data(recognizer, own, data, unknown, screen.bar, screen.report)
    held_out = decode_data.held_out(recognizer, own, dataset, screen.bar)
    decoder = of_run.resolve(run, options.lm, {}, held_out, screen.report)
    if not decoder.lm:
        raise UserError(f"{run.folder} has no language model: give --lm=<folder>")
    with DecoderPool(run.alphabet, decoder.lm, workers=options.workers or usable_cores()) as pool:
        content, logits = decode_data.kept_logits(
            out / "logits.npz", recognizer, dataset, options.batch_size, screen.bar
        )
        used, others = tuning.split(dataset, logits, options.utterances, options.seed)
        evaluate = tuning.Trials(pool, used, out, content + decoder_config.sha256(Path(decoder.lm)))
        found: list[tuning.Trial] = []
        for trial in tuning.search(evaluate, options.beams, options.trials, options.seed):
            found.append(trial)
            best = min(found, key=tuning.rank)
            screen.bar(len(found), options.trials, f"trials: LER {best.ler:.1%}, WER {best.wer:.1%} so far")
        checks = [tuning.measure(pool, others, trial.config) for trial in (best, found[0]) if others.ids]
        calibration, effect = _calibrate(pool, used, others if others.ids else used, best)
    tuned = f"{name}, {len(used.ids)} utterances, {len(found)} trials"
    weights = {field: getattr(best.config, field) for field in ("beam_width", "lm_weight", "word_bonus")}
    decoder_config.save(run, dataclasses.replace(decoder, **weights, **calibration, tuned=tuned))
    report.save(out / "trials.png", (12, 4), lambda figure: figures.trials(figure, found, best))
    screen.report(comparison.markdown(tuning.table(found, len(used.ids), checks, len(others.ids))))
    screen.report(f"confidence: expected calibration error {effect}")
    values = ", ".join(f"{field} {value:.3g}" for field, value in {**weights, **calibration}.items())
    screen.report(f"{run.folder / decoder_config.FILE}: {values}")
    screen.report(f"trials and plot: {out}")


def _calibrate(
    pool: DecoderPool, used: tuning.Part, measured: tuning.Part, best: tuning.Trial
) -> tuple[dict[str, float], str]:
    """The calibration fitted to `used`, and its effect on `measured`."""
    lists = [list(pool.nbest(part.logits, confidence.HYPOTHESES, best.config)) for part in (used, measured)]
    fitted = calibration.fit(lists[0], used.expected)
    before, after = (
        calibration.calibration_error(calibration.reliability(*calibration.words(lists[1], measured.expected, *values)))
        for values in ((1.0, 1.0), fitted)
    )
    effect = f"{before:.1%} before, {after:.1%} after calibration, on {len(measured.ids)} utterances"
    return dict(zip(("temperature", "coverage"), fitted, strict=True)), effect


if __name__ == "__main__":
    cli.run(main)
