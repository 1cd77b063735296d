"""RADECK, or Tuda-De ("German speechdata package"): read sentences, recorded with several microphones, one XML file
each.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from deliveries.bas import delivery
from w2l_jax.corpora import SPLITS, Reading, Skipped, Utterance
from w2l_jax.errors import UserError

MICROPHONES = ("Yamaha", "Kinect-Beam", "Kinect-RAW", "Realtek", "Samson", "Microsoft-Kinect-Raw")
KNOWN_BAD = (
    "2014-03-24-13-39-24_Kinect-RAW",
    "2014-03-27-11-50-33_Kinect-RAW",
    "2014-03-18-15-34-19_Realtek",
    "2014-06-17-13-46-27_Kinect-RAW",
    "2014-06-17-13-46-27_Realtek",
    "2014-06-17-13-46-27_Samson",
    "2014-06-17-13-46-27_Yamaha",
)

_SOURCE = "RADECK"
_LOWER_MICROPHONES = {name.lower() for name in MICROPHONES}
_LOWER_KNOWN_BAD = {name.lower() for name in KNOWN_BAD}
# Foreign letters in a few names; Unicode does not decompose some of them.
_LETTERS = str.maketrans("țščęōáíłàėúȚŠČĘŌÁÍŁÀĖÚ", "tsceoailaeuTSCEOAILAEU")
_CO2 = re.compile("co2", flags=re.IGNORECASE)

Key = tuple[Path, str]
"""The folder and time stamp shared by an XML file and its recordings."""


def read(source: Path, include_dev: bool = False) -> Reading:
    """Reads the corpus: every microphone's recording of a sentence is an utterance of its speaker.

    The folders `train`, `dev` and `test` are its official splits; `include_dev` puts dev into train, as the paper
    does. Raises UserError if `source` is no folder, and if no utterance can be used.
    """
    paths, skipped = delivery.find(source, (".wav", ".flac", ".xml"))
    recordings: dict[Key, list[Path]] = {}
    for path in delivery.by_id((path for path in paths if path.suffix.lower() != ".xml"), skipped).values():
        recordings.setdefault((path.parent, path.stem.partition("_")[0].lower()), []).append(path)
    annotations = {(path.parent, path.stem.lower()): path for path in paths if path.suffix.lower() == ".xml"}
    utterances, notes = [], []
    for key in sorted(recordings.keys() | annotations.keys()):
        split = _split(key[0], source)
        for outcome in _outcomes(annotations.get(key), recordings.get(key, []), split, include_dev):
            (utterances if isinstance(outcome, Utterance) else skipped).append(outcome)
    if not utterances:
        expected = "<stamp>.xml files beside <stamp>_<microphone>.wav in the folders train, dev and test"
        raise delivery.nothing_to_use(source, expected, skipped)
    homeless = sum(not utterance.split for utterance in utterances)
    if homeless:
        notes.append(f"{source}: {homeless} recordings are in no folder train, dev or test, so have no official split")
    return Reading(tuple(utterances), tuple(skipped), tuple(notes))


def _outcomes(
    annotation: Path | None, recordings: list[Path], split: str, include_dev: bool
) -> Iterator[Utterance | Skipped]:
    if annotation is None:
        for audio in recordings:
            stamp = audio.stem.partition("_")[0]
            yield Skipped(audio, "no transcript", f"{audio}: there is no {stamp}.xml beside it", audio.stem)
        return
    if not recordings:
        message = f"{annotation}: there is no {annotation.stem}_<microphone>.wav beside it"
        yield Skipped(annotation, "missing audio", message, annotation.stem, broken=True)
        return
    problem = speaker = text = ""
    try:
        speaker, text = _sentence(annotation)
    except UserError as error:
        problem = str(error)
    for audio in recordings:
        if audio.stem.lower() in _LOWER_KNOWN_BAD:
            yield Skipped(audio, "known bad", f"{audio}: known to be damaged or empty", audio.stem)
        elif audio.stem.partition("_")[2].lower() not in _LOWER_MICROPHONES:
            message = f"{audio}: its name does not end in a microphone of {', '.join(MICROPHONES)}"
            yield Skipped(audio, "unknown microphone", message, audio.stem)
        elif problem:
            yield Skipped(audio, "unreadable annotation", problem, audio.stem, broken=True)
        elif not text:
            yield Skipped(audio, "empty text", f"{annotation}: <cleaned_sentence> is empty or missing", audio.stem)
        else:
            side = "train" if include_dev and split == "dev" else split
            yield Utterance(audio.stem, audio, text, speaker, "german", side, _SOURCE)


def _split(folder: Path, source: Path) -> str:
    """The official split: the innermost folder of such a name, up to `source` itself; "" if there is none."""
    names = [source.resolve().name, *folder.relative_to(source).parts]
    return next((name.lower() for name in reversed(names) if name.lower() in SPLITS), "")


def _sentence(path: Path) -> tuple[str, str]:
    """Speaker and text of an XML file, whose root is <recording>, in older versions <Recording>."""
    try:
        root = ElementTree.fromstring(path.read_bytes().lstrip())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not valid XML ({error}); fetch the file again or remove it") from None
    if root.tag.lower() != "recording":
        raise UserError(f"{path}: the root is <{root.tag}>, not <recording>; remove the file")
    fields = {element.tag.lower(): "".join(element.itertext()).strip() for element in root.iter()}
    return fields.get("speaker_id", ""), _clean(fields.get("cleaned_sentence", ""))


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFC", text).translate(_LETTERS)
    return " ".join(_CO2.sub("co zwei", text).split())
