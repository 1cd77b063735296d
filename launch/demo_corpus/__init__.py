"""The demo corpus: English, German and optionally Dutch and Mandarin, synthesised locally by espeak-ng.

Sentences come from grammars and word lists written for this project, speakers are espeak-ng's voice variants. The
result is manifests and audio files, as of any other corpus.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

from w2l_jax.errors import UserError
from w2l_jax.files import one_at_a_time, write_atomically
from w2l_jax.workers import usable_cores

VERSION = 1
"""Of the content: increase it when the same configuration gives another corpus."""

FOLDER = Path("data/demo")
"""Folder of the demonstration's corpus."""

_MARKER = "corpus.json"
_LANGUAGES = {"en": "english", "de": "german", "nl": "dutch", "zh": "mandarin"}


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Size of the corpus: hours of training speech, and per language development utterances and lines of text.

    A language with 0 hours is omitted. Mandarin is written in pinyin without tones.
    """

    english_hours: float = 2.5
    german_hours: float = 0.75
    dutch_hours: float = 0.0
    mandarin_hours: float = 0.0
    dev_utterances: int = 120
    text_lines: int = 30_000
    seed: int = 0

    @property
    def hours(self) -> dict[str, float]:
        """Hours of training speech by language code, without omitted languages."""
        hours = {lang: getattr(self, f"{name}_hours") for lang, name in _LANGUAGES.items()}
        return {lang: spoken for lang, spoken in hours.items() if spoken}


def make_corpus(
    folder: str | Path,
    config: DemoConfig = DemoConfig(),
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Makes the corpus in `folder`, or finishes it if an earlier call was interrupted.

    Writes `english_train.jsonl`, `english_dev.jsonl`, `english_text.txt`, the same for the other languages, audio (16
    kHz mono 16-bit FLAC) under `audio/`, and the marker `corpus.json`. `workers` processes share the work (default: one
    per core); `progress` is called with (done, total, description). The same configuration gives the same bytes. Raises
    UserError if the folder holds another corpus or cannot be written, or the extra `demo` is not installed.
    """
    folder = Path(folder)
    try:
        if _is_complete(folder, config):
            return
        with one_at_a_time(folder):
            if _is_complete(folder, config):
                return
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / _MARKER, _marker(config, complete=False))
            _make(folder, config, workers or usable_cores(), progress or (lambda done, total, description: None))
            write_atomically(folder / _MARKER, _marker(config, complete=True))
    except OSError as error:
        raise UserError(
            f"cannot make the demo corpus in {folder}: {error}; free some space or choose another folder"
        ) from error


def text_beside(train: str) -> str:
    """The language-model text for the demonstration's training manifest; "" for any other data."""
    text = Path(train.removesuffix("_train.jsonl") + "_text.txt")
    return f"{text},{train}" if (text.parent / _MARKER).is_file() and text.is_file() else ""


def _make(folder: Path, config: DemoConfig, workers: int, progress: Callable[[int, int, str], None]) -> None:
    from demo_corpus.record import record_all
    from demo_corpus.sentences import write_script

    scripts = {
        lang: write_script(lang, hours, config.dev_utterances, config.text_lines, config.seed)
        for lang, hours in config.hours.items()
    }
    seconds = record_all([line for script in scripts.values() for line in script.lines], folder, workers, progress)
    for lang, script in scripts.items():
        name = _LANGUAGES[lang]
        write_atomically(folder / f"{name}_text.txt", "".join(f"{sentence}\n" for sentence in script.text))
        for split in ("train", "dev"):
            entries = [_entry(line, seconds[line.stem]) for line in script.lines if line.split == split]
            write_atomically(folder / f"{name}_{split}.jsonl", "".join(entries))


def _entry(line, seconds: float) -> str:
    entry = {
        "audio_filepath": line.audio,
        "duration": seconds,
        "text": line.text,
        "speaker": line.speaker.name,
        "lang": line.lang,
        "source": f"demo_{_LANGUAGES[line.lang]}",
    }
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _marker(config: DemoConfig, complete: bool) -> str:
    marker = {"version": VERSION, "config": _described(config), "complete": complete}
    return json.dumps(marker, indent=1) + "\n"


def _described(config: DemoConfig) -> dict[str, float]:
    # Corpora made before a language was added do not mention it.
    return {name: value for name, value in dataclasses.asdict(config).items() if value or not name.endswith("_hours")}


def _is_complete(folder: Path, config: DemoConfig) -> bool:
    """Whether the corpus is complete; raises UserError if the folder holds another one."""
    marker = folder / _MARKER
    if not marker.exists():
        return False
    try:
        marked = json.loads(marker.read_text("utf-8"))
        held = {**marked["config"], "version": marked["version"]}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{marker} is damaged; delete the folder {folder} or choose another one") from None
    asked = {**_described(config), "version": VERSION}
    differing = sorted(key for key in held.keys() | asked.keys() if held.get(key, 0) != asked.get(key, 0))
    if differing:
        raise UserError(
            f"{folder} holds another demo corpus: "
            + ", ".join(f"{key} is {held.get(key, 0)}, not {asked.get(key, 0)}" for key in differing)
            + "; delete the folder or choose another one"
        )
    names = [_LANGUAGES[lang] for lang in config.hours]
    manifests = [folder / f"{name}_{split}.jsonl" for name in names for split in ("train", "dev")]
    texts = [folder / f"{name}_text.txt" for name in names]
    if not marked.get("complete") or not all(path.exists() for path in manifests + texts):
        return False
    return all(_has_audio(manifest) for manifest in manifests)


def _has_audio(manifest: Path) -> bool:
    recordings = [Path(json.loads(line)["audio_filepath"]) for line in manifest.read_text("utf-8").splitlines()]
    # Listing a folder once is much faster than asking for thousands of files.
    present = {
        parent: set(os.listdir(manifest.parent / parent)) if (manifest.parent / parent).is_dir() else set()
        for parent in {path.parent for path in recordings}
    }
    return all(path.name in present[path.parent] for path in recordings)
