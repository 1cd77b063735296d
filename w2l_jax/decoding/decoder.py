"""The beam search with one alphabet, language model and set of options (`beam` defines the score)."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import search
from w2l_jax.decoding.beam import BeamConfig, Transcript, check_searchable
from w2l_jax.decoding.greedy import clean
from w2l_jax.errors import UserError
from w2l_jax.lm import lexicon
from w2l_jax.lm.language_model import END, LanguageModel

_REMEMBERED = 2**17  # word scores kept from one utterance to the next, some 30 MB


class Decoder:
    """Turns logits into transcripts with one alphabet, one language model (or none) and one set of options."""

    def __init__(
        self,
        alphabet: Alphabet,
        lm: LanguageModel | Path | str | None,
        config: BeamConfig = BeamConfig(),
        hot_words: Mapping[str, float] = MappingProxyType({}),
    ):
        """Takes a language model or its folder, and hot words with the boost of each occurrence (natural log).

        Raises UserError if the model shares no word with the alphabet, for a hot word that it cannot spell, and for an
        alphabet of ASG.
        """
        check_searchable(alphabet)
        self.alphabet, self.config, self.hot_words = alphabet, config, dict(hot_words)
        self.lm = lm if lm is None or isinstance(lm, LanguageModel) else LanguageModel(lm)
        known = set(alphabet.characters)
        if self.lm and not any(known.issuperset(word) for word in self.lm.words):
            raise UserError(
                f"no word of {self.lm.folder} can be spelled with {alphabet.characters!r}; "
                "build the language model in the network's alphabet"
            )
        _check(self.hot_words, alphabet)
        self._space = alphabet.characters.find(" ") + 1 or -1
        self._lexicon = self._make_lexicon()

    def _make_lexicon(self) -> tuple[np.ndarray, ...]:
        """The words of `search`: the model's, then "" for all others, then hot words outside the model."""
        names = self.lm.words if self.lm else ()
        context_free_W = self.config.lm_weight * self.lm.unigrams_W if self.lm else np.zeros(1)
        added = tuple(sorted(set(self.hot_words).difference(names)))
        tree = self.lm.tree(self.alphabet, added) if self.lm else lexicon.tree(("", *added), 0, self.alphabet)
        extra_W = np.zeros(len(names) + 1 + len(added))
        extra_W[: len(names)] = self.config.word_bonus
        extra_W += [self.hot_words.get(name, 0.0) for name in (*names, "", *added)]
        score_W = extra_W + np.pad(context_free_W, (0, len(added)), "edge")
        return *tree, lexicon.bounds(tree.first_N, tree.word_N, score_W, len(names)), extra_W

    def decode(self, logits_SxV: np.ndarray) -> Transcript:
        """Returns the best transcript of the logits [S, V] of one utterance, S its real frames.

        The logits may be of any float type, normalised or not. Deterministic: ties are broken by the text. Raises
        UserError for NaN or a wrong shape.
        """
        return self.nbest(logits_SxV, 1)[0]

    def nbest(self, logits_SxV: np.ndarray, count: int) -> list[Transcript]:
        """Returns up to `count` different transcripts, best first, of the final beam. Otherwise as `decode`."""
        return self.finish(self.extend(self.begin(), logits_SxV), count)

    def begin(self) -> search.Front:
        """Returns the search's state before the first frame. An earlier search cannot be resumed then."""
        if self.lm:
            self.lm.forget(_REMEMBERED)
        return search.begin(self._space)

    def extend(self, front: search.Front, logits_SxV: np.ndarray) -> search.Front:
        """Returns the search's state after more frames [S, V], checked as in `decode`; consumes `front`."""
        log_probs_SxV = self._log_probs(logits_SxV)
        frame, ending = 0, None
        limits = self._space, self.config.beam_width, float(self.config.beam_margin)
        while ending is None or len(ending):
            frame, front, ending = search.advance(log_probs_SxV, frame, front, self._lexicon, limits)
            self._end_words(front[0], ending)
        return front

    def text(self, front: search.Front) -> str:
        """Returns the best text so far; later frames may change all of it."""
        beams, nodes, _ = front
        best = (beams["acoustic"] + beams["words"] + beams["ahead"]).argmax()
        return clean(self.alphabet.decode(search.spell(nodes, beams["node"][best])))

    def finish(self, front: search.Front, count: int) -> list[Transcript]:
        """Returns the n-best list of all frames up to `front`, which can still be extended."""
        if count < 1:
            raise UserError(f"{count} transcripts asked for; there must be at least 1")
        beams, nodes = self._ended(front)
        # "w" and "w " are one transcript.
        outer = (beams["prefix"] == lexicon.ROOT) & (beams["node"] > 0)
        texts_N, text_B = np.unique(np.where(outer, nodes["parent"][beams["node"]], beams["node"]), return_inverse=True)
        acoustic_N = np.full(len(texts_N), -np.inf)
        np.logaddexp.at(acoustic_N, text_B, beams["acoustic"])
        score_N = acoustic_N.copy()
        score_N[text_B] += beams["words"] + beams["end_score"]
        enough = np.sort(score_N)[-min(count, len(score_N))]
        transcripts = []
        for i in np.flatnonzero(score_N >= enough):
            text = clean(self.alphabet.decode(search.spell(nodes, texts_N[i])))
            transcripts.append(self._transcript(text, float(acoustic_N[i])))
        return sorted(transcripts, key=lambda t: (-t.score, t.text))[:count]

    def _transcript(self, text: str, acoustic: float) -> Transcript:
        lm_score, known = self.lm.score(text) if self.lm else (0.0, 0)
        hot = sum((self.hot_words.get(word, 0.0) for word in text.split()), 0.0)
        score = acoustic + self.config.lm_weight * lm_score + self.config.word_bonus * known + hot
        return Transcript(text, score, acoustic, lm_score, known, hot)

    def _ended(self, front: search.Front) -> tuple[np.ndarray, np.ndarray]:
        """Returns the beams, `end_score` with the end of the sentence, and the nodes."""
        beams, nodes = front[0].copy(), front[1]
        self._end_words(beams, np.flatnonzero(beams["end_state"] < 0))
        if self.lm:
            ends = [self.lm.follow(state, END)[0] for state in beams["end_state"].tolist()]
            beams["end_score"] += self.config.lm_weight * np.array(ends)
        return beams, nodes

    def _end_words(self, beams: np.ndarray, which: np.ndarray) -> None:
        """Fills in `end_state` and `end_score` of these beams."""
        _, _, word_N, _, extra_W = self._lexicon
        words = word_N[beams["prefix"][which]]
        beams["end_state"][which], beams["end_score"][which] = 0, extra_W[words]
        if self.lm:
            pairs = zip(beams["state"][which].tolist(), words.tolist(), strict=True)
            answers = np.array([self.lm.follow(state, word) for state, word in pairs]).reshape(-1, 2)
            beams["end_score"][which] += self.config.lm_weight * answers[:, 0]
            beams["end_state"][which] = answers[:, 1]

    def _log_probs(self, logits_SxV: np.ndarray) -> np.ndarray:
        """Returns log-probabilities, -inf below the margin except for the frame's best."""
        logits_SxV = np.asarray(logits_SxV, np.float64, order="C")  # compiled for this layout
        if logits_SxV.ndim != 2 or logits_SxV.shape[1] != self.alphabet.size:
            raise UserError(f"logits of shape {logits_SxV.shape} do not fit {self.alphabet.size} labels")
        top_Sx1 = logits_SxV.max(axis=1, keepdims=True)
        if not np.isfinite(top_Sx1).all():
            frame = int(np.flatnonzero(~np.isfinite(top_Sx1))[0])
            raise UserError(f"frame {frame} of the logits is not finite; the network diverged or its input is damaged")
        log_probs_SxV = logits_SxV - top_Sx1
        log_probs_SxV -= np.log(np.exp(log_probs_SxV).sum(axis=1, keepdims=True))
        tried_SxV = log_probs_SxV >= -self.config.label_margin
        tried_SxV[np.arange(len(logits_SxV)), logits_SxV.argmax(axis=1)] = True
        return np.where(tried_SxV, log_probs_SxV, -np.inf)


def _check(hot_words: Mapping[str, float], alphabet: Alphabet) -> None:
    for word, boost in hot_words.items():
        if not word or " " in word or alphabet.unknown(word):
            raise UserError(
                f"hot word {word!r} is not one word in the letters {alphabet.characters!r}; give single words (single "
                "characters in a script without spaces)"
            )
        if not math.isfinite(boost):
            raise UserError(f"hot word {word!r} adds {boost} to the score; give a finite number")
