"""Dutch: the inflected forms of the words in dutch.toml, with two genders."""

import re
from collections.abc import Mapping

from demo_corpus import numerals

_GENDERS = ("de", "het")
# Per gender: words before a noun, and whether the adjective after them is inflected (het kleine huis, een klein huis).
_DETERMINERS = {
    "de": {"de": (6, True), "een": (6, True), "deze": (1, True), "elke": (1, True), "onze": (1, True)},
    "het": {"het": (6, True), "een": (6, False), "dit": (1, True), "elk": (1, False), "ons": (1, True)},
}
_POSSESSIVES = dict.fromkeys(("mijn", "jouw", "zijn", "haar", "hun"), (1, True)) | {"geen": (1, False)}
_ENDING = re.compile(r"'?s|[bdfgklmnprst]?en|ens|eren|ën|n|jes")
_NO_GE = re.compile(r"be|ver|ge|ont|her")
_UNSTRESSED = re.compile(r"[aeiou].*(e[lrnm]|ig)$")
_SHORT = re.compile(r"(?<![aeiouë])[aeiou][^aeiouw]$")
_TREMA = str.maketrans("eiu", "ëïü")


def rules(tables: Mapping) -> dict[str, list[str]]:
    """Returns all rules of the grammar: the file's own, the words with their forms, noun phrases, and numbers."""
    out = dict(tables["words"]) | dict(tables["rules"])
    for name in tables["de"]:
        out.update(_nouns(name, {gender: tables[gender][name] for gender in _GENDERS}))
    for gender in _GENDERS:
        out[f"ding2.{gender}"] = [f"{{deel}}{{ding.{gender}}}"]
    out["ding2"] = [f"{{ding2.{gender}}}" for gender in _GENDERS]
    out["ding2.np"] = _phrases("ding2", dict.fromkeys(_GENDERS, 1))
    for name, entries in tables["werkwoorden"].items():
        forms = [_verb(entry) for entry in entries]
        for suffix in forms[0]:
            out[name + suffix] = [form[suffix] for form in forms]
    for name, entries in tables["bijvoeglijk"].items():
        words = [(plain, inflected or plain + "e") for plain, _, inflected in (e.partition("/") for e in entries)]
        out[name], out[f"{name}.e"] = [plain for plain, _ in words], [inflected for _, inflected in words]
        # Words such as gold and wooden have neither inflection nor comparison.
        out[f"{name}.er"] = [_compared(plain, inflected) for plain, inflected in words if plain != inflected]
    out.update(_numbers())
    return out


def finish(sentence: str) -> str:
    """Returns a sentence unchanged: Dutch has no contractions."""
    return sentence


def _nouns(name: str, genders: Mapping[str, list[str]]) -> dict[str, list[str]]:
    out = {name: [], f"{name}.mv": []}
    for gender, entries in genders.items():
        words = [entry.split("/") for entry in entries]
        out[f"{name}.{gender}"] = [single for single, _ in words]
        out[name] += out[f"{name}.{gender}"]
        out[f"{name}.mv"] += [single + plural if _ENDING.fullmatch(plural) else plural for single, plural in words]
    total = sum(map(len, genders.values()))
    shares = {gender: max(1, round(6 * len(entries) / total)) for gender, entries in genders.items()}
    return out | {f"{name}.np": _phrases(name, shares)}


def _phrases(name: str, shares: Mapping[str, int]) -> list[str]:
    """Article, sometimes an adjective, noun; `shares` are the genders'."""
    phrases = []
    for gender, share in shares.items():
        noun = f"{{{name}.{gender}}}"
        for determiner, (weight, inflects) in (_DETERMINERS[gender] | _POSSESSIVES).items():
            adjective = "{adjectief.e}" if inflects or gender == "de" else "{adjectief}"
            phrases += [f"{determiner} {word} * {share * weight}" for word in (noun, f"{adjective} {noun}")]
    return phrases


def _verb(entry: str) -> dict[str, str]:
    written, *parts = entry.split("/")
    prefix, _, infinitive = written.rpartition("|")
    if len(parts) > 1:
        present, past, pasts, participle = parts
        stem = present[:-2] if infinitive.endswith("aan") else present
        stem = stem[:-1] if stem.endswith("t") and infinitive[-3] != "t" else stem
    else:
        stem = parts[0] if parts else _stem(infinitive)
        voiceless = infinitive[-3] in "tkfspx" or infinitive[-4:-2] == "ch"
        present, past = stem + ("" if stem.endswith("t") else "t"), stem + ("te" if voiceless else "de")
        pasts, participle = past + "n", stem + ("" if stem[-1] in "td" else "t" if voiceless else "d")
        if not _NO_GE.match(infinitive):
            participle = "ge" + participle[0].translate(_TREMA) + participle[1:]
    forms = {"": infinitive, ".hij": present, ".wij": infinitive, ".ik": stem, ".was": past, ".waren": pasts}
    if prefix:
        forms = {suffix: f"{form} {{wat}} {prefix}" for suffix, form in forms.items()} | {"": prefix + infinitive}
    return forms | {".ge": prefix + participle}


def _stem(infinitive: str) -> str:
    """The stem of a regular verb in Dutch spelling: maken → maak, pakken → pak, reizen → reis, wandelen → wandel."""
    root = infinitive[:-2]
    if root[-1] == root[-2]:
        root = root[:-1]
    elif _SHORT.search(root) and not _UNSTRESSED.search(root):
        root = root[:-1] + root[-2:]
    return root[:-1] + {"v": "f", "z": "s"}.get(root[-1], root[-1])


def _compared(plain: str, inflected: str) -> str:
    if plain == "goed":
        return "beter"
    return plain + "der" if plain.endswith("r") else inflected + "r"


def _numbers() -> dict[str, list[str]]:
    cardinal, ordinal, year = (numerals.speller("nl", to) for to in ("cardinal", "ordinal", "year"))
    return {
        "cijfer": [cardinal(n) for n in range(10)],
        "klein": [cardinal(n) for n in range(2, 13)],
        "uur": [cardinal(n) for n in range(1, 13)],
        "minuten": [cardinal(n) for n in range(2, 60)],
        "getal": [cardinal(n) for n in (*range(3, 1000, 7), *range(1200, 10000, 900))],
        "dag": [cardinal(n) for n in range(1, 32)],
        "rang": [ordinal(n) for n in range(1, 13)],
        # Written as one word, unlike num2words.
        "jaar": [year(n).replace(" ", "") for n in range(1805, 2031, 3)],
    }
