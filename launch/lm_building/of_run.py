"""The decoder of a run; its language model is built when it is first decoded."""

from collections.abc import Callable, Collection
from typing import Any

from w2l_jax.corpora import weighted_sources
from w2l_jax.decoding.beam import check_searchable
from w2l_jax.decoding.decoder_config import FILE, DecoderConfig, greedy_without_lm, load, override, save
from w2l_jax.errors import UserError
from w2l_jax.files import one_at_a_time
from w2l_jax.run import Run

_FEW_WORDS = 1000


def resolve(
    run: Run,
    lm: str,
    overrides: dict[str, Any],
    held_out_ids: Collection[str],
    report: Callable[[str], None] = print,
    text: str = "",
) -> DecoderConfig:
    """The decoder options of `run`: `overrides` over `decoder.toml` over the paper's defaults.

    `lm` names a language model's folder, `none` or, empty, the run's own. A missing one is built, without
    `held_out_ids`, from the run's training transcripts (or from `text`, files separated by commas), if a sentence is
    left, unlike when decoding the training data. Without a language model there is a search only if `overrides` has a
    `beam_width`; weights tuned with another model are not used. ASG networks are decoded greedily; asking for a search
    raises UserError.
    """
    if run.alphabet.repetitions:
        if lm not in ("", "none") or overrides.get("beam_width"):
            check_searchable(run.alphabet)
        return DecoderConfig(beam_width=0)
    decoder = load(run, lm) if lm != "none" else DecoderConfig()
    if decoder is None:
        try:
            with one_at_a_time(run.folder / FILE):  # if two decode a run first, one builds and both use it
                decoder = load(run, lm) or DecoderConfig(lm=lm or _build(run, text, held_out_ids, report))
                if decoder.lm:
                    save(run, decoder)
        except OSError as error:
            where = f"{run.folder} cannot be written ({error.strerror})"
            if not lm:
                advice = "name one with lm=<folder>, or decode greedily with lm=none"
                raise UserError(f"{where}, so no language model can be stored there: {advice}") from None
            report(f"note: {where}, so this language model is not remembered")
            decoder = DecoderConfig(lm=lm)
    return override(greedy_without_lm(decoder), overrides)


def _build(run: Run, text: str, held_out_ids: Collection[str], report: Callable[[str], None]) -> str:
    from lm_building.build import LanguageModelConfig, NoSentenceError, build  # KenLM, where a model is built only

    data = run.data
    sources = [path for path, _ in weighted_sources(text or data["train"])]
    report(f"{run.folder} has no language model: building one from {', '.join(sources)}")
    options = (run.folder / "lm", run.alphabet, LanguageModelConfig(), held_out_ids)
    try:
        card = build(sources, *options, language=data["language"])
    except NoSentenceError as error:
        report(f"{error}; decoding greedily, as with lm=none")
        return ""
    held_out = f", {card['held_out']} utterances held out" if card["held_out"] else ""
    few = "; so few words may do more harm than good, compare lm=none" if card["vocabulary"] < _FEW_WORDS else ""
    report(f"language model: {card['sentences']:,} sentences, {card['vocabulary']:,} different words{held_out}{few}")
    return str(run.folder / "lm")
