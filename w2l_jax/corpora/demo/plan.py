"""What is to be said, by whom: everything about the corpus that is decided before anything is spoken."""

import dataclasses
import random
import re
from collections.abc import Iterator

from w2l_jax.corpora.demo import english, german, grammar
from w2l_jax.corpora.demo.speakers import Speaker, cast

LANGUAGES = {"en": ("english", english), "de": ("german", german)}
_WORDS = range(3, 13)
_SECONDS = (1.5, 6.0)
# This share of the English words is never heard in training, as for a real recogniser. German's few hours leave
# enough words unheard by themselves.
_WITHHELD = {"en": 0.05, "de": 0.0}


@dataclasses.dataclass(frozen=True)
class Line:
    """One thing to say: `stem` is the id and the name of the audio file, `seed` decides the room."""

    stem: str
    lang: str
    split: str
    text: str
    speaker: Speaker
    seed: int

    @property
    def audio(self) -> str:
        """The audio file, relative to the corpus."""
        return f"audio/{self.lang}_{self.split}/{self.stem}.flac"


@dataclasses.dataclass(frozen=True)
class Script:
    """The plan for one language: what is spoken, and sentences for a language model."""

    lines: list[Line]
    text: list[str]


def write_script(lang: str, hours: float, dev_utterances: int, text_lines: int, seed: int) -> Script:
    """Returns the plan for `lang` (`en`, `de`), in which no sentence occurs twice.

    `hours` are those of the training speech, kept to within a few per cent.
    """
    name, language = LANGUAGES[lang]
    tables = grammar.load(name)
    known = grammar.withhold(tables, _WITHHELD[lang], seed)
    rng = random.Random(f"{name} {seed}")
    everything = grammar.Grammar(language.rules(tables), language.finish, rng)
    heard = grammar.Grammar(language.rules(known), language.finish, rng)
    used: set[str] = set()

    def spoken(source: grammar.Grammar, split: str) -> Iterator[tuple[Line, float]]:
        speakers = cast(lang, split, seed)
        index = 0
        while True:
            speaker = speakers[index % len(speakers)]
            text = _new_sentence(source, used, speaker)
            stem = f"{lang}_{split}_{index:05d}"
            yield Line(stem, lang, split, text, speaker, rng.getrandbits(32)), _seconds(text, speaker)
            index += 1

    dev = spoken(everything, "dev")
    lines = [next(dev)[0] for _ in range(dev_utterances)]
    train = spoken(heard, "train")
    total = 0.0
    while total < 3600 * hours:
        line, seconds = next(train)
        lines.append(line)
        total += seconds
    return Script(lines, [_new_sentence(everything, used) for _ in range(text_lines)])


def _new_sentence(source: grammar.Grammar, used: set[str], speaker: Speaker | None = None) -> str:
    while True:
        text = source.sentence()
        letters = "".join(re.findall(r"\w", text.lower()))
        if letters in used or len(text.split()) not in _WORDS:
            continue
        if speaker is None or _SECONDS[0] <= _seconds(text, speaker) <= _SECONDS[1]:
            used.add(letters)
            return text


def _seconds(text: str, speaker: Speaker) -> float:
    """How long espeak-ng will need, within a tenth or so, with pauses: a fit to four thousand utterances."""
    spoken = 0.048 * sum(map(str.isalpha, text)) + 0.055 * len(text.split())
    return 0.32 + 0.25 * text.count(",") + spoken * 175 / speaker.voice.rate
