"""The corpora by name and the modules that read them. To add one, write a module and a line here."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from w2l_jax.corpora import MAX_SKIPPED, Reading
from w2l_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A named corpus; `reader` is `module:function`."""

    reader: str
    language: str
    """Of the transcripts; "" if the corpus or the user gives it."""
    about: str


CORPORA: dict[str, Corpus] = {
    "librispeech": Corpus("deliveries.librispeech:read", "english", "LibriSpeech, unpacked or its .tar.gz files"),
    "tfds:librispeech": Corpus(
        "deliveries.tfds:read_librispeech", "english", "LibriSpeech in a data_dir of TensorFlow Datasets"
    ),
    "commonvoice": Corpus("deliveries.commonvoice:read", "", "Mozilla Common Voice, one language"),
    "mls": Corpus("deliveries.mls:read", "", "Multilingual LibriSpeech"),
    "ljspeech": Corpus("deliveries.ljspeech:read", "", "LJSpeech and others in its layout: metadata.csv and wavs/"),
    "kaldi": Corpus("deliveries.kaldi:read", "", "Kaldi data directories: wav.scp, text, utt2spk, segments"),
    "manifest": Corpus("w2l_jax.corpora.manifest:reading", "", "a manifest: JSON lines, CSV or TSV"),
    "alc": Corpus("deliveries.bas.corpora:alc", "german", "ALC: read and spontaneous, partly intoxicated, in a car"),
    "hempel": Corpus("deliveries.bas.corpora:hempel", "german", "HEMPEL: spontaneous, over the telephone"),
    "pd1": Corpus("deliveries.bas.corpora:pd1", "german", "PD1: read sentences"),
    "pd2": Corpus("deliveries.bas.corpora:pd2", "german", "PD2: read train queries"),
    "rvg-j": Corpus("deliveries.bas.corpora:rvg_j", "german", "RVG-J: adolescents, numbers and sentences"),
    "sc10": Corpus("deliveries.bas.corpora:sc10", "german", "SC10: German as a second language, test only"),
    "vm1": Corpus("deliveries.bas.corpora:vm1", "german", "Verbmobil 1: dialogues about appointments, training only"),
    "vm2": Corpus("deliveries.bas.corpora:vm2", "german", "Verbmobil 2: dialogues about appointments, training only"),
    "ziptel": Corpus(
        "deliveries.bas.corpora:ziptel", "german", "ZIPTEL: streets, ZIP codes and cities over the telephone"
    ),
    "tuda": Corpus("deliveries.tuda:read", "german", "RADECK or Tuda-De: read, several microphones at once"),
}


def read(name: str, source: str | Path, max_skipped: float = MAX_SKIPPED, **options: Any) -> Reading:
    """Reads the corpus `name` from `source`, a folder or file.

    `options` are the reader's own, such as `include_dev` of LibriSpeech. Raises UserError for an unknown name, if
    `source` is not such a corpus (naming what was expected), and if more than the share `max_skipped` of its rows is
    broken (0: any).
    """
    if name not in CORPORA:
        raise UserError(f"unknown corpus {name!r}; known: {', '.join(CORPORA)}")
    module, function = CORPORA[name].reader.split(":")
    read_it = getattr(importlib.import_module(module), function)
    return read_it(Path(source), **options).check(Path(source), max_skipped)
