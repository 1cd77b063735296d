"""Sentences drawn from lists of words and patterns (a context-free grammar whose data are TOML files)."""

import importlib.resources
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence

_FIELD = re.compile(r"\{([^{}]+)\}")
_WEIGHT = re.compile(r" \* (\d+)$")
_LONG_LIST = 40


def load(name: str) -> dict:
    """Returns the tables of a language's data file: sections of word lists, and `rules`."""
    tables = tomllib.loads(importlib.resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))
    sections = {key: value for key, value in tables.items() if key != "rules"}
    split = {section: {name: text.split() for name, text in lists.items()} for section, lists in sections.items()}
    return {**split, "rules": tables["rules"]}


def withhold(tables: Mapping, share: float, seed: int) -> dict:
    """Returns the tables without a random `share` of the words in every long list. A withheld word is removed from all
    lists, so that the rest never contains it.
    """
    rng = random.Random(f"withheld words {seed}")
    lists = [words for section, named in tables.items() if section != "rules" for words in named.values()]
    withheld = set()
    for words in lists:
        if len(words) >= _LONG_LIST:
            withheld.update(rng.sample(words, round(share * len(words))))
    return {
        section: named
        if section == "rules"
        else {n: [w for w in words if w not in withheld] for n, words in named.items()}
        for section, named in tables.items()
    }


class Grammar:
    """Draws sentences from rules.

    Every rule deals its alternatives like a shuffled deck of cards, so each word is drawn equally often, and a small
    corpus covers the whole vocabulary. Raises ValueError if a rule names an unknown one.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]], finish: Callable[[str], str], rng: random.Random):
        self._cards = {name: _weighted(alternatives) for name, alternatives in rules.items()}
        self._decks = {name: [] for name in rules}
        self._finish, self._rng = finish, rng
        for name, alternatives in self._cards.items():
            unknown = {field for text in alternatives for field in _FIELD.findall(text)} - self._cards.keys()
            if unknown or not alternatives:
                raise ValueError(f"grammar rule {name!r} is empty or names unknown rules: {sorted(unknown)}")

    def sentence(self) -> str:
        """Returns one sentence, with capitals and punctuation."""
        text = self._finish(self._draw("sentence").replace("_", " "))
        return text[0].upper() + text[1:]

    def _draw(self, name: str) -> str:
        deck = self._decks[name]
        if not deck:
            deck.extend(self._cards[name])
            self._rng.shuffle(deck)
        return _FIELD.sub(lambda match: self._draw(match[1]), deck.pop())


def _weighted(alternatives: Sequence[str]) -> list[str]:
    cards = []
    for text in alternatives:
        weight = _WEIGHT.search(text)
        cards += [_WEIGHT.sub("", text)] * (int(weight[1]) if weight else 1)
    return cards
