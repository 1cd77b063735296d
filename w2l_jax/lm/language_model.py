"""A KenLM model for the search: scores of words in context, and the vocabulary."""

import functools
import json
import math
from pathlib import Path

import kenlm
import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest
from w2l_jax.lm import DIGESTS, lexicon

END = -1  # the word </s>
_LOG_10 = math.log(10)  # KenLM's logarithms are decimal


class LanguageModel:
    """A KenLM model and its vocabulary, read from its folder."""

    def __init__(self, folder: Path | str):
        """Reads `lm.bin`, `unigrams.txt` and `card.json`; raises UserError if one is missing or damaged."""
        self.folder = Path(folder)
        files = [self.folder / name for name in ("lm.bin", "unigrams.txt", "card.json")]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise UserError(f"{self.folder} is not a language model: {', '.join(missing)} missing")
        try:
            self.card = json.loads(files[2].read_text(encoding="utf-8"))
            for path, name in zip(files, DIGESTS, strict=False):
                if name in self.card and file_digest(path) != self.card[name]:
                    raise ValueError(f"{path.name} was changed since it was built")
            self.model = kenlm.Model(str(files[0]))
            self.words = sorted(set(files[1].read_text(encoding="utf-8").split("\n")[:-1]))
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.folder}: damaged language model ({error}); build it again") from None
        unknown = [word for word in self.words if word not in self.model]
        if unknown or not self.words:
            problem = f"names {unknown[0]!r}, which lm.bin lacks" if unknown else "is empty"
            raise UserError(f"{files[1]} {problem}; delete the folder and build it again")
        self.unigrams_W = _LOG_10 * np.array([self._unigram(word) for word in [*self.words, "<unk>"]])
        """Natural log P without context of each of `words`, and of <unk>."""
        # Cached: trees while options are tuned, word scores between hypotheses.
        self.tree = functools.lru_cache(maxsize=2)(self._tree)
        self.follow = functools.lru_cache(maxsize=None)(self._follow)
        self.forget(limit=-1)

    def _unigram(self, word: str) -> float:
        state = kenlm.State()
        self.model.NullContextWrite(state)
        return self.model.BaseScore(state, word, kenlm.State())

    def _tree(self, alphabet: Alphabet, added: tuple[str, ...]) -> lexicon.Tree:
        """Returns the lexicon's tree of `words`, "" (which stands for all others) and `added`."""
        return lexicon.tree((*self.words, "", *added), len(self.words), alphabet)

    def score(self, text: str) -> tuple[float, int]:
        """Returns natural log P(<s> text </s>) and how many of its words are in the vocabulary."""
        log_10 = self.model.score(text, bos=True, eos=True)
        return log_10 * _LOG_10, sum(word in self.model for word in text.split())

    def _follow(self, state: int, word: int) -> tuple[float, int]:
        """Returns natural log P(word | state) and the number of the next state.

        State 0 is the beginning of a sentence; words are positions in `words`, END, and anything beyond <unk>.
        """
        name = "</s>" if word == END else self.words[word] if word < len(self.words) else "<unk>"
        after = kenlm.State()
        score = _LOG_10 * self.model.BaseScore(self._states[state], name, after)
        number = self._numbers.setdefault(after, len(self._states))
        if number == len(self._states):
            self._states.append(after)
        return score, number

    def forget(self, limit: int) -> None:
        """Clears the cache of `follow`, and all states but the first, if it has more than `limit` entries."""
        if self.follow.cache_info().currsize > limit:
            self.follow.cache_clear()
            start = kenlm.State()
            self.model.BeginSentenceWrite(start)
            self._states, self._numbers = [start], {start: 0}
