"""Transcribe recordings: text on standard output."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from w2l_jax import audio, config, features, inference
from w2l_jax.checkpoint import LATEST, SHIPPED, Run
from w2l_jax.decoding import settings
from w2l_jax.decoding.beam import Decoder
from w2l_jax.decoding.greedy import greedy
from w2l_jax.errors import UserError

DESCRIPTION = """Transcribe one or many recordings (.wav, .flac, .ogg, .opus, .mp3; any rate, mono or stereo).

Each file gives one line on standard output, behind its name when there are several. The run's own language model
is used where it has one (decode.py makes it). A file that cannot be read is reported, and the others go on.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    files: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Recordings."""
    run: str = LATEST
    """Run folder (default: the last trained run; where there is none, the English network of models/english)."""
    checkpoint: str = "best"
    """Which checkpoint: best, last or a kept step."""
    lm: str = ""
    """Folder of a language model, or none for greedy decoding (default: the run's own)."""


def main(argv: list[str] | None = None) -> None:
    options = config.parse(Options, argv, description=DESCRIPTION)
    if not options.files:
        raise UserError("name at least one recording: python launch/transcribe.py a.wav")
    config.use_compilation_cache()
    run = Run.open(Run.default(options.run))
    if run.folder == SHIPPED:
        print(f"no run here yet: using the English network {run.folder}", file=sys.stderr)
    chosen = settings.load(run) or settings.DecoderSettings()
    model_folder = "" if options.lm == "none" else options.lm or chosen.lm
    decoder = Decoder(run.alphabet, model_folder, chosen.beam) if model_folder else None
    if decoder is None and options.lm != "none":
        print("no language model: decoding greedily", file=sys.stderr)
    params = run.restore_params(options.checkpoint)
    failed = 0
    for name in options.files:
        try:
            logits_SxV = inference.logits(params, features.compute(audio.load(Path(name)), run.features), run.model)
        except audio.AudioError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        if decoder:
            text = decoder.decode(logits_SxV).text
        else:
            text = greedy(inference.best_path(params, logits_SxV), run.alphabet)
        print(f"{name}: {text}" if len(options.files) > 1 else text, flush=True)
    if failed:
        raise UserError(f"{failed} of {len(options.files)} recordings could not be read")


if __name__ == "__main__":
    config.run(main)
