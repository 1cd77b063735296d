"""The demo corpus: English and German, spoken on the user's own machine by espeak-ng.

Sentences come from grammars and word lists written for this project, speakers are espeak-ng's voice variants. What
comes out are manifests and audio files like those of any other corpus.
"""

import dataclasses
import json
import multiprocessing
import os
import pathlib
from collections.abc import Callable

from w2l_jax.errors import UserError

VERSION = 1  # of the content; to be raised whenever the same configuration gives another corpus
MARKER = "corpus.json"
_NAMES = {"en": "english", "de": "german"}


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """How much to speak: hours of training speech, utterances of development speech and lines of text per language."""

    english_hours: float = 2.5
    german_hours: float = 0.75
    dev_utterances: int = 120
    text_lines: int = 30_000
    seed: int = 0


def make_corpus(
    folder: str | pathlib.Path,
    config: DemoConfig = DemoConfig(),
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Makes the corpus in `folder`, or finishes it if an earlier call was interrupted.

    Writes `english_train.jsonl`, `english_dev.jsonl`, `german_train.jsonl`, `german_dev.jsonl`, `english_text.txt`,
    `german_text.txt`, audio (16 kHz mono 16-bit FLAC) under `audio/`, and the marker `corpus.json`. `workers`
    processes share the work (default: one per core); `progress` is called with (done, total, description). Raises UserError
    if the folder holds another corpus, cannot be written, or something of the extra `demo` is not installed.
    """
    folder = pathlib.Path(folder)
    try:
        if _is_complete(folder, config):
            return
        _write(folder / MARKER, _marker(config, complete=False))
        _make(folder, config, workers or os.cpu_count() or 1, progress or (lambda done, total, description: None))
        _write(folder / MARKER, _marker(config, complete=True))
    except OSError as error:
        raise UserError(f"cannot make the demo corpus in {folder}: {error}; free some space or choose another folder") from error


def _make(folder: pathlib.Path, config: DemoConfig, workers: int, progress: Callable[[int, int, str], None]) -> None:
    from w2l_jax.corpora.demo.plan import write_script

    hours = {"en": config.english_hours, "de": config.german_hours}
    scripts = {lang: write_script(lang, hours[lang], config.dev_utterances, config.text_lines, config.seed) for lang in _NAMES}
    utterances = [utterance for script in scripts.values() for utterance in script.utterances]
    durations = _speak_all(folder, utterances, workers, progress)
    for lang, script in scripts.items():
        for split in ("train", "dev"):
            lines = [_line(u, durations[u.stem]) for u in script.utterances if u.split == split]
            _write(folder / f"{_NAMES[lang]}_{split}.jsonl", "".join(lines))
        _write(folder / f"{_NAMES[lang]}_text.txt", "".join(f"{sentence}\n" for sentence in script.text))


def _speak_all(folder: pathlib.Path, utterances: list, workers: int, progress: Callable[[int, int, str], None]) -> dict[str, float]:
    """Speaks what is missing; returns the duration of every utterance in seconds."""
    from w2l_jax.corpora.demo.record import duration, record

    durations, missing = {}, []
    for utterance in utterances:
        path = folder / _audio(utterance)
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = duration(path)
        if seconds is None:
            missing.append((utterance, path))
        else:
            durations[utterance.stem] = seconds
    done = len(durations)
    progress(done, len(utterances), "speaking")
    # Always in a process of its own: a crash of espeak-ng then ends no training.
    with multiprocessing.get_context("spawn").Pool(max(1, min(workers, len(missing)))) as pool:
        for stem, seconds in pool.imap_unordered(record, missing, chunksize=8):
            durations[stem] = seconds
            done += 1
            progress(done, len(utterances), "speaking")
    return durations


def _audio(utterance) -> str:
    return f"audio/{_NAMES[utterance.lang]}_{utterance.split}/{utterance.stem}.flac"


def _line(utterance, seconds: float) -> str:
    entry = {
        "audio_filepath": _audio(utterance),
        "duration": seconds,
        "text": utterance.text,
        "speaker": utterance.speaker.name,
        "lang": utterance.lang,
        "source": f"demo_{_NAMES[utterance.lang]}",
    }
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _marker(config: DemoConfig, complete: bool) -> str:
    return json.dumps({"version": VERSION, "config": dataclasses.asdict(config), "complete": complete}, indent=1) + "\n"


def _is_complete(folder: pathlib.Path, config: DemoConfig) -> bool:
    """Whether nothing is left to do; raises UserError if the folder holds another corpus."""
    marker = folder / MARKER
    if not marker.exists():
        return False
    try:
        found = json.loads(marker.read_text("utf-8"))
        same = (found["version"], found["config"]) == (VERSION, dataclasses.asdict(config))
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{marker} is damaged; delete the folder {folder} or choose another one") from None
    if not same:
        raise UserError(
            f"{folder} holds a demo corpus made with other settings ({found['config']}, version {found['version']}; asked for: "
            f"{dataclasses.asdict(config)}, version {VERSION}); delete the folder or choose another one"
        )
    manifests = [folder / f"{name}_{split}.jsonl" for name in _NAMES.values() for split in ("train", "dev")]
    texts = [folder / f"{name}_text.txt" for name in _NAMES.values()]
    if not found.get("complete") or not all(path.exists() for path in manifests + texts):
        return False
    return all(_has_audio(manifest) for manifest in manifests)


def _has_audio(manifest: pathlib.Path) -> bool:
    spoken = {json.loads(line)["audio_filepath"] for line in manifest.read_text("utf-8").splitlines()}
    audio = manifest.parent / "audio" / manifest.stem
    return audio.is_dir() and spoken <= {f"audio/{manifest.stem}/{entry.name}" for entry in os.scandir(audio)}


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a file that is complete whenever it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
