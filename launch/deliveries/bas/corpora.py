"""ALC, HEMPEL, PD1, PD2, RVG-J, SC10, VM1, VM2 and ZIPTEL: one reader, and a table of their differences."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deliveries.bas import delivery, emu, partitur
from deliveries.bas.annotation import Annotation, AnnotationError, Transcript, transcript
from w2l_jax.corpora import Reading, Skipped, Utterance

_AUDIO = (".wav", ".flac", ".nis")
_EMU, _PARTITUR = "_annot.json", ".par"


def speaker_folder(audio: Path, named: str) -> str:
    """The speaker is the recording's folder; in an EMU database, which has one folder per recording, the session."""
    folder = audio.resolve().parent
    if folder.name.endswith("_bndl"):
        folder = folder.parent
    return folder.name.removesuffix("_ses")


def speaker_in_id(audio: Path, named: str) -> str:
    """The speaker is the first three characters of the id."""
    return audio.stem[:3]


def speaker_named(audio: Path, named: str) -> str:
    """The speaker is the annotation's (SPN), else the folder: two people share a dialogue's folder."""
    return named or speaker_folder(audio, named)


@dataclasses.dataclass(frozen=True)
class BasCorpus:
    """A corpus of the archive; call it with a folder to read it."""

    name: str
    split: str = ""
    speaker: Callable[[Path, str], str] = speaker_folder
    """Of a recording's path and the speaker's name in its annotation, which may be ""."""
    german: str = ""
    """Prefix of the ids of German turns, a case-insensitive regular expression; "": all are German."""
    known_bad: tuple[str, ...] = ()
    """Ids whose annotation is wrong."""
    twins: tuple[str, str] | None = None
    """Recordings whose id contains the first string take the text of those with the second instead."""

    def __call__(self, source: Path) -> Reading:
        """Reads a corpus, however deep its folders.

        Raises UserError if `source` is no folder, and if no utterance can be used.
        """
        files, skipped = delivery.find(source, (*_AUDIO, _EMU, _PARTITUR))
        audio = delivery.by_id((path for path in files if path.suffix.lower() in _AUDIO), skipped)
        annotations: dict[str, list[Path]] = {}
        for ending in (_EMU, _PARTITUR):  # an EMU annotation is preferred to a Partitur file
            paths = (path for path in files if path.name.lower().endswith(ending))
            for key, path in delivery.by_id(paths, skipped, ending).items():
                annotations.setdefault(key, []).append(path)
        utterances, notes = [], []
        for key in sorted(audio.keys() | annotations.keys()):
            for outcome in self._outcomes(key, audio.get(key), annotations, notes):
                (utterances if isinstance(outcome, Utterance) else skipped).append(outcome)
        if not utterances:
            expected = (
                f"recordings of {self.name} ({', '.join(_AUDIO)}) with {_PARTITUR} or {_EMU} files of the same names"
            )
            raise delivery.nothing_to_use(source, expected, skipped)
        return Reading(tuple(utterances), tuple(skipped), tuple(notes))

    def _outcomes(
        self, key: str, audio: Path | None, annotations: dict[str, list[Path]], notes: list[str]
    ) -> Iterator[Utterance | Skipped]:
        own = annotations.get(key, [])
        if self.german and not re.match(self.german, key):
            for path in [audio] if audio else own:
                yield Skipped(path, "not German", f"{path}: by its name not a German turn of {self.name}", key)
        elif audio is None:
            for path in own:
                yield Skipped(path, "missing audio", f"{path}: no recording has that name", key, broken=True)
        elif key in self.known_bad:
            yield Skipped(
                audio, "known bad", f"{audio}: its annotation in {self.name} is known to be wrong", audio.stem
            )
        else:
            yield self._utterance(key, audio, annotations, notes)

    def _utterance(
        self, key: str, audio: Path, annotations: dict[str, list[Path]], notes: list[str]
    ) -> Utterance | Skipped:
        twin = key.replace(*self.twins) if self.twins else key
        paths = annotations.get(twin, [])
        if not paths and twin != key:
            message = f"{audio}: takes the text of {twin}, since it has no annotation"
            return Skipped(audio, "no twin", message, audio.stem)
        if not paths:
            message = f"{audio}: there is no {key}{_PARTITUR} or {key}{_EMU}"
            return Skipped(audio, "no transcript", message, audio.stem)
        try:
            spoken, named, remarks = _spoken(paths)
        except AnnotationError as error:
            return Skipped(audio, "unreadable annotation", str(error), audio.stem, broken=True)
        if twin == key:
            notes += remarks
        if not spoken.words:
            return Skipped(audio, "empty text", f"{paths[0]}: no words, or nothing but markers", audio.stem)
        return Utterance(
            id=audio.stem,
            audio=audio,
            text=" ".join(spoken.words),
            speaker=self.speaker(audio, named),
            language="german",
            split=self.split,
            source=self.name,
            words=spoken.times,
        )


def _spoken(paths: Sequence[Path]) -> tuple[Transcript, str, list[str]]:
    """Words, speaker and notes of a recording's annotations: the first with words is used, disagreement is noted.

    Raises AnnotationError if none of the files can be read.
    """
    read: list[tuple[Path, Annotation]] = []
    notes = []
    for path in paths:
        try:
            read.append((path, _annotation(path)))
        except AnnotationError as error:
            notes.append(str(error))
    if not read:
        raise AnnotationError("; ".join(notes))
    notes += [f"word times ignored: {annotation.problem}" for _, annotation in read if annotation.problem]
    speaker = next((annotation.speaker for _, annotation in read if annotation.speaker), "")
    spoken = [(path, transcript(annotation)) for path, annotation in read]
    path, best = next((pair for pair in spoken if pair[1].words), spoken[0])
    for other_path, other in spoken:
        if _plain(other) != _plain(best):
            notes.append(f"{path}: {' '.join(best.words)!r} is used, though {other_path} has {' '.join(other.words)!r}")
        elif not best.times:
            best = other
    return best, speaker, notes


def _plain(spoken: Transcript) -> str:
    return " ".join(spoken.words).lower()


def _annotation(path: Path) -> Annotation:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror})") from None
    return (partitur if path.name.lower().endswith(_PARTITUR) else emu).read(content, str(path))


alc = BasCorpus("ALC", speaker=speaker_in_id, twins=("_m_", "_h_"))
hempel = BasCorpus("HEMPEL")
pd1 = BasCorpus("PD1")
pd2 = BasCorpus("PD2")
rvg_j = BasCorpus("RVG-J")
sc10 = BasCorpus("SC10", split="test", known_bad=("fiw1e020",))
vm1 = BasCorpus("VM1", split="train", speaker=speaker_named, german="[klmngzjw]")
vm2 = BasCorpus("VM2", split="train", speaker=speaker_named, german="g|m.*_ger$")
ziptel = BasCorpus("ZIPTEL")
