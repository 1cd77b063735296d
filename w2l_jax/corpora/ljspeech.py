"""LJSpeech, and the many corpora in its layout: `metadata.csv` beside a folder with recordings, `wavs/`.

A line is `<file name without ending>|<text>` or `<file name>|<text>|<text with numbers spelled out>`, without quoting
and without a header. M-AILABS, one such folder a book, can be read as a whole.
"""

from pathlib import Path

from w2l_jax.corpora import Reading
from w2l_jax.corpora.archives import Collector, lines, listing, recordings, without_ending
from w2l_jax.errors import UserError

_METADATA = "metadata.csv"


def read(source: Path, language: str = "", speaker: str = "") -> Reading:
    """Reads every `metadata.csv` at and below `source`; the text with numbers spelled out is taken where there is one.

    The layout says neither speakers nor splits: unless `speaker` names the one who reads everything, speakers are
    unknown, and a random split will have the same voices on both sides. Raises UserError for a malformed line, an id
    given twice, and where there is no `metadata.csv`.
    """
    found = listing(Path(source))
    folders = [folder for folder, names in found if _METADATA in names]
    if not folders:
        raise UserError(f"{source}: holds no {_METADATA}; give the folder with {_METADATA} and wavs/")
    name = Path(source).absolute().name
    collector = Collector(Path(source), recordings(found), source=name, language=language, speaker=speaker)
    for folder in folders:
        for place, line in lines(folder / _METADATA, "table of LJSpeech"):
            file, *texts = line.split("|")
            if not file.strip() or "/" in file or len(texts) not in (1, 2):
                raise UserError(f"{place}: not a file name and one or two texts between |; correct or delete the line")
            spelled_out = texts[-1].strip()
            collector.add(place, without_ending(file.strip()), spelled_out or texts[0].strip())
    notes = () if speaker else (f"{source}: {_METADATA} names no speakers; a random split does not keep them apart",)
    return collector.reading(notes=notes)
