"""Mandarin: measure words, the tones that change in speech, and numbers."""

import re
from collections.abc import Mapping

from w2l_jax.spelling import mandarin as number

# Tone sandhi: a third tone before another one, and `one` and `not` by the tone that follows, change.
_SANDHI = {
    re.compile(r"\b([Yy])i1 (?=[A-Za-z]+4)"): r"\1i2 ",
    re.compile(r"\b([Yy])i1 (?=[A-Za-z]+[123])"): r"\1i4 ",
    re.compile(r"\b([Bb])u4(?= ?[A-Za-z]+4)"): r"\1u2",
    re.compile(r"3(?= ?[A-Za-z]+3)"): "2",
}
# Of noun phrases, and how often.
_DETERMINERS = {"yi1": 4, "zhe4": 3, "na4": 3, "{xiaoshu}": 2, "mei3": 1, "ling4 yi1": 1}


def rules(tables: Mapping) -> dict[str, list[str]]:
    """Returns all rules of the grammar: the file's own, nouns with their measure words, and numbers."""
    out = dict(tables["words"]) | dict(tables["rules"])
    for kind, measures in tables.items():
        if kind in ("words", "rules"):
            continue
        for measure, nouns in measures.items():
            out[f"{kind}.{measure}"] = nouns
        out[kind] = [noun for nouns in measures.values() for noun in nouns]
        shares = {measure: max(1, round(len(nouns) / 6)) for measure, nouns in measures.items()}
        out[f"{kind}.liang"] = [f"{measure} {{{kind}.{measure}}} * {share}" for measure, share in shares.items()]
        out[f"{kind}.np"] = [
            f"{determiner} {measure} {noun} * {weight * share}"
            for measure, share in shares.items()
            for determiner, weight in _DETERMINERS.items()
            for noun in (f"{{{kind}.{measure}}}", f"{{xingrong}} de5 {{{kind}.{measure}}}")
        ]
    return out | _numbers()


def finish(sentence: str) -> str:
    """Applies tone sandhi: ni3 hao3 → ni2 hao3."""
    for pattern, replacement in _SANDHI.items():
        sentence = pattern.sub(replacement, sentence)
    return sentence


def _numbers() -> dict[str, list[str]]:
    digits = [number(n) for n in range(10)]
    # Two of something are liang3; one in a telephone number is yao1.
    counted = ["liang3" if n == 2 else number(n) for n in range(1, 13)]
    return {
        "shuwei": ["yao1" if digit == "yi1" else digit for digit in digits],
        "xiaoshu": counted[1:10],
        "xiaohao": [number(n) for n in range(1, 13)],
        "fenzhong": [number(n) for n in range(11, 60)],
        "shu": [number(n) for n in (*range(3, 1000, 7), *range(1200, 10000, 900))],
        "dian": counted,
        "yuefen": [number(n) for n in range(1, 13)],
        "hao": [f"{number(n)} hao4" for n in range(1, 32)],
        "nian": ["".join(digits[int(digit)] for digit in str(year)) for year in range(1805, 2031, 3)],
    }
