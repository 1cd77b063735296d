"""`python -m w2l_jax talk.mp3`: prints the transcripts of recordings."""

import argparse
import sys

from w2l_jax.decoding import formats
from w2l_jax.errors import UserError
from w2l_jax.recognizer import INCLUDED, load


def main(argv: list[str] | None = None) -> int:
    """Transcribes recordings to standard output; returns 1 if any could not be read."""
    parser = argparse.ArgumentParser(prog="python -m w2l_jax", description="Transcribe recordings.")
    parser.add_argument("recordings", nargs="+", help="audio files of any rate and length")
    parser.add_argument(
        "--run", default="english", help=f"run folder, .safetensors file or included network ({', '.join(INCLUDED)})"
    )
    parser.add_argument("--format", default="txt", choices=tuple(formats.FORMATS), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if len(options.recordings) > 1 and options.format not in ("txt", "json", "manifest"):
        parser.error(f"{options.format} is a format for one recording")
    try:
        recognizer = load(options.run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    failed = 0
    for path in options.recordings:
        name = path if len(options.recordings) > 1 or options.format in ("json", "manifest") else ""
        try:
            for part in formats.FORMATS[options.format](name, recognizer.segments(path)):
                print(part, end="", flush=True)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
