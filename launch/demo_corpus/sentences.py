"""The script of the corpus: sentences and speakers, decided before any synthesis."""

import dataclasses
import random
import re
from collections.abc import Iterator

from demo_corpus import dutch, english, german, grammar, mandarin, pinyin
from demo_corpus.speakers import Speaker, cast

LANGUAGES = {
    "en": ("english", english),
    "de": ("german", german),
    "nl": ("dutch", dutch),
    "zh": ("mandarin", mandarin),
}
_WORDS = range(3, 13)
_SECONDS = (1.5, 6.0)
# This share of the English words never occurs in training, as for a real recogniser. The few hours of the other
# languages leave out enough words anyway.
_WITHHELD = {"en": 0.05, "de": 0.0, "nl": 0.0, "zh": 0.0}
# Seconds per letter and per word at 175 words per minute, fitted to some thousand utterances.
_PACE = {"en": (0.048, 0.055), "de": (0.048, 0.055), "nl": (0.051, 0.057), "zh": (0.068, 0.053)}


@dataclasses.dataclass(frozen=True)
class Line:
    """One utterance to synthesise.

    `stem` is the id and the name of the audio file, `text` the transcript, `spoken` the input of espeak-ng, and `seed`
    determines the room.
    """

    stem: str
    lang: str
    split: str
    text: str
    spoken: str
    speaker: Speaker
    seed: int

    @property
    def audio(self) -> str:
        """The audio file, relative to the corpus."""
        return f"audio/{self.lang}_{self.split}/{self.stem}.flac"


@dataclasses.dataclass(frozen=True)
class Script:
    """The script of one language, and sentences for a language model."""

    lines: list[Line]
    text: list[str]


def write_script(lang: str, hours: float, dev_utterances: int, text_lines: int, seed: int) -> Script:
    """Returns the script of `lang` (`en`, `de`, `nl`, `zh`), without repeated sentences.

    `hours` of training speech are met to within a few per cent.
    """
    name, language = LANGUAGES[lang]
    tables = grammar.load(name)
    known = grammar.withhold(tables, _WITHHELD[lang], seed)
    rng = random.Random(f"{name} {seed}")
    everything = grammar.Grammar(language.rules(tables), language.finish, rng)
    training_grammar = grammar.Grammar(language.rules(known), language.finish, rng)
    used: set[str] = set()

    def lines_of(source: grammar.Grammar, split: str) -> Iterator[tuple[Line, float]]:
        speakers = cast(lang, split, seed)
        index = 0
        while True:
            speaker = speakers[index % len(speakers)]
            spoken = _new_sentence(lang, source, used, speaker)
            stem = f"{lang}_{split}_{index:05d}"
            line = Line(stem, lang, split, _written(lang, spoken), spoken, speaker, rng.getrandbits(32))
            yield line, _seconds(lang, spoken, speaker)
            index += 1

    dev = lines_of(everything, "dev")
    lines = [next(dev)[0] for _ in range(dev_utterances)]
    train = lines_of(training_grammar, "train")
    total = 0.0
    while total < 3600 * hours:
        line, seconds = next(train)
        lines.append(line)
        total += seconds
    text = (_new_sentence(lang, everything, used) for _ in range(text_lines))
    return Script(lines, [_written(lang, sentence) for sentence in text])


def _new_sentence(lang: str, source: grammar.Grammar, used: set[str], speaker: Speaker | None = None) -> str:
    while True:
        spoken = source.sentence()
        letters = "".join(re.findall(r"\w", _written(lang, spoken).lower()))
        if letters in used or len(spoken.split()) not in _WORDS:
            continue
        if speaker is None or _SECONDS[0] <= _seconds(lang, spoken, speaker) <= _SECONDS[1]:
            used.add(letters)
            return spoken


def _written(lang: str, spoken: str) -> str:
    return pinyin.without_tones(spoken) if lang == "zh" else spoken


def _seconds(lang: str, spoken: str, speaker: Speaker) -> float:
    """Estimated duration of espeak-ng's speech with pauses, to about a tenth."""
    letter, word = _PACE[lang]
    pace = letter * sum(map(str.isalpha, spoken)) + word * len(spoken.split())
    return 0.32 + 0.25 * spoken.count(",") + pace * 175 / speaker.voice.rate
