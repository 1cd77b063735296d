"""German: the inflected forms of the words in german.toml, with gender and case."""

import re
from collections.abc import Mapping

from demo_corpus import numerals

_GENDERS = {"maskulin": "m", "feminin": "f", "neutrum": "n"}
# Per case and gender: endings of words like der (d+er, dies+er), of words like ein, and of the adjective after each.
_LIKE_DER = {"nom": "er ie as", "acc": "en ie as", "dat": "em er em"}
_LIKE_EIN = {"nom": " e ", "acc": "en e ", "dat": "em er em"}
_ADJECTIVE_DER = {"nom": "e e e", "acc": "en e e", "dat": "en en en"}
_ADJECTIVE_EIN = {"nom": "er e es", "acc": "en e es", "dat": "en en en"}
_NO_GE = re.compile(r"(be|er|ver|ent|emp|zer|ge|miss)|.*ieren$")
_GE_DESPITE_LOOKS = ("beten", "bellen", "erben")
_CONTRACTIONS = {
    "an dem": "am",
    "bei dem": "beim",
    "in dem": "im",
    "in das": "ins",
    "von dem": "vom",
    "zu dem": "zum",
    "zu der": "zur",
}
_CONTRACTION = re.compile(r"\b(" + "|".join(_CONTRACTIONS) + r")\b")


def rules(tables: Mapping) -> dict[str, list[str]]:
    """Returns all rules of the grammar: the file's own, the words with their forms, noun phrases, and numbers."""
    out = dict(tables["words"])
    for name, alternatives in tables["rules"].items():
        if any(".K}" in text for text in alternatives):
            for case in _LIKE_DER:
                out[f"{name}.{case}"] = [text.replace(".K}", f".{case}}}") for text in alternatives]
        else:
            out[name] = alternatives
    for name in tables["maskulin"]:
        out.update(_nouns(name, {short: tables[gender][name] for gender, short in _GENDERS.items()}))
    compounds = {f"ding2.{g}{case}": [f"{{teil}}{{ding.{g}{case}.low}}"] for g in "mfn" for case in ("", ".obl")}
    out.update(compounds)
    out["ding2.s"] = [f"{{ding2.{gender}}}" for gender in "mfn"]
    out.update(_phrases("ding2", {"m": 1, "f": 1, "n": 1}))
    for name, entries in tables["verben"].items():
        forms = [_verb(entry) for entry in entries]
        for suffix in forms[0]:
            out[name + suffix] = [form[suffix] for form in forms]
    for name, entries in tables["adjektive"].items():
        words = [entry.split("/") for entry in entries]
        out[name] = [word[0] for word in words]
        for ending in ("e", "en", "er", "es"):
            out[f"{name}.{ending}"] = [_join(word[-1], ending) for word in words]
    out.update(_numbers())
    return out


def finish(sentence: str) -> str:
    """Contracts prepositions and articles: in dem → im."""
    return _CONTRACTION.sub(lambda match: _CONTRACTIONS[match[1]], sentence)


def _nouns(name: str, genders: Mapping[str, list[str]]) -> dict[str, list[str]]:
    out = {f"{name}.pl": [], f"{name}.pldat": [], f"{name}.s": []}
    for gender, entries in genders.items():
        words = [(*entry.rstrip("*").split("/"), entry.endswith("*")) for entry in entries]
        singular = [word[0] for word in words]
        oblique = [plural if weak else single for single, plural, weak in words]
        plural = [word[1] for word in words]
        out[f"{name}.{gender}"], out[f"{name}.{gender}.obl"] = singular, oblique
        out[f"{name}.{gender}.low"] = [word.lower() for word in singular]
        out[f"{name}.{gender}.obl.low"] = [word.lower() for word in oblique]
        out[f"{name}.s"] += singular
        out[f"{name}.pl"] += plural
        out[f"{name}.pldat"] += [word if word[-1] in "ns" else word + "n" for word in plural]
    total = sum(map(len, genders.values()))
    return out | _phrases(name, {g: max(1, round(6 * len(e) / total)) for g, e in genders.items()}) if total else out


def _phrases(name: str, weights: Mapping[str, int]) -> dict[str, list[str]]:
    """Article, sometimes an adjective, noun, in each case; `weights` are the genders' shares."""
    out = {}
    for case in _LIKE_DER:
        phrases = []
        for i, (gender, weight) in enumerate(weights.items()):
            noun = f"{{{name}.{gender}}}" if case == "nom" else f"{{{name}.{gender}.obl}}"
            der, ein, after_der, after_ein = (
                table[case].split(" ")[i] for table in (_LIKE_DER, _LIKE_EIN, _ADJECTIVE_DER, _ADJECTIVE_EIN)
            )
            this = "e" if der == "ie" else "es" if der == "as" else der
            determiners = [(f"d{der}", after_der, 6), (f"ein{ein}", after_ein, 6)]
            determiners += [(word + this, after_der, 1) for word in ("dies", "jed")]
            determiners += [(word + ein, after_ein, 1) for word in ("mein", "dein", "sein", "ihr", "unser", "kein")]
            for determiner, ending, times in determiners:
                article = "das" if determiner == "das" else determiner
                phrases += [
                    f"{article} {noun} * {weight * times}",
                    f"{article} {{adjektiv.{ending}}} {noun} * {weight * times}",
                ]
        out[f"{name}.{case}"] = phrases
    return out


def _verb(entry: str) -> dict[str, str]:
    written, *parts = entry.split("/")
    prefix, _, infinitive = written.rpartition("|")
    stem = infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]
    # öffn-et, red-et, but lern-t, wohn-t.
    present = parts[0] if parts else stem + ("et" if re.search(r"([dt]|(ch|[^aeiouäöülrhmn])[mn])$", stem) else "t")
    past = parts[1] if parts else present + "e"
    plain = _NO_GE.match(infinitive) and infinitive not in _GE_DESPITE_LOOKS
    participle = parts[2] if parts else prefix + ("" if plain else "ge") + present
    first = {"wissen": "weiß", "mögen": "mag"}.get(infinitive) or (
        infinitive[:-3] + "le" if infinitive.endswith("eln") else stem + "e"
    )
    forms = {"": infinitive, ".er": present, ".wir": infinitive, ".ich": first, ".war": past}
    forms[".waren"] = past + ("n" if past.endswith("e") else "en")
    if prefix:
        forms = {suffix: f"{form} {{was}} {prefix}" for suffix, form in forms.items()} | {"": prefix + infinitive}
    return forms | {".ge": participle}


def _join(stem: str, ending: str) -> str:
    return stem[:-1] + ending if stem.endswith("e") else stem + ending


def _numbers() -> dict[str, list[str]]:
    cardinal, ordinal, year = (numerals.speller("de", to) for to in ("cardinal", "ordinal", "year"))
    return {
        "ziffer": [cardinal(n) for n in range(10)],
        "klein": [cardinal(n) for n in range(2, 13)],
        "stunde": [cardinal(n) if n > 1 else "ein" for n in range(1, 13)],
        "stunden": [cardinal(n) for n in range(1, 13)],
        "minuten": [cardinal(n) for n in range(2, 60)],
        "zahl": [cardinal(n) for n in (*range(3, 1000, 7), *range(1200, 10000, 900))],
        "tag": [ordinal(n) for n in range(1, 32)],
        "tag_en": [ordinal(n) + "n" for n in range(1, 32)],
        "ordnung_e": [ordinal(n) for n in range(1, 13)],
        "ordnung_en": [ordinal(n) + "n" for n in range(1, 13)],
        "ordnung_er": [ordinal(n) + "r" for n in range(1, 13)],
        "jahr": [year(n) for n in range(1805, 2031, 3)],
    }
