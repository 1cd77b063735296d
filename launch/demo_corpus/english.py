"""English: the inflected forms of the words in english.toml."""

import re
from collections.abc import Mapping

from demo_corpus import numerals

# Spelled with a vowel but pronounced with a consonant (a unicorn), and the reverse (an hour).
_A = re.compile(r"\b([Aa]) (?=(?!uni[^mn]|use|usu|Uk|eu|Eu|one\b|once\b)[aeiouAEIOU]|hour|hono|honest|heir)")


def rules(tables: Mapping) -> dict[str, list[str]]:
    """Returns all rules of the grammar: the file's own, the words with their forms, and numbers."""
    out = dict(tables["rules"])
    out.update(tables["words"])
    for name, entries in tables["nouns"].items():
        words = [entry.split("/") for entry in entries]
        out[name] = [word[0] for word in words]
        out[f"{name}.s"] = [word[1] if len(word) > 1 else _add_s(word[0]) for word in words]
    for name, entries in tables["verbs"].items():
        forms = [_verb(entry) for entry in entries]
        for i, suffix in enumerate(("", ".s", ".ed", ".en", ".ing")):
            out[name + suffix] = [form[i] for form in forms]
    for name, entries in tables["adjectives"].items():
        words = [entry.split("/") for entry in entries]
        out[name] = [word[0] for word in words]
        out[f"{name}.ly"] = [_add_ly(word[0]) for word in words]
        out[f"{name}.er"] = [word[1] if len(word) > 1 else _add_e(word[0], "er") for word in words]
        out[f"{name}.est"] = [word[2] if len(word) > 2 else _add_e(word[0], "est") for word in words]
    out["weekday.s"] = [_add_s(day) for day in out["weekday"]]
    out.update(_numbers())
    return out


def finish(sentence: str) -> str:
    """Corrects what patterns cannot express: a/an, and the verb after I."""
    sentence = _A.sub(r"\1n ", sentence)
    return re.sub(r"\bI were\b", "I was", re.sub(r"\bI are\b", "I am", sentence))


def _numbers() -> dict[str, list[str]]:
    cardinal, ordinal, year = (numerals.speller("en", to) for to in ("cardinal", "ordinal", "year"))
    return {
        "digit": [cardinal(n) for n in range(10)],
        "small": [cardinal(n) for n in range(2, 21)],
        "teens": [cardinal(n) for n in range(1, 20)],
        "hour": [cardinal(n) for n in range(1, 13)],
        "minutes": [cardinal(n) for n in range(2, 60)],
        "late": [cardinal(n) for n in range(10, 60)],
        "number": [cardinal(n) for n in (*range(3, 1000, 7), *range(1200, 10000, 900), 1000000)],
        "ordinal": [ordinal(n) for n in range(1, 32)],
        "year": [year(n) for n in range(1805, 2031, 3)],
    }


def _verb(entry: str) -> tuple[str, str, str, str, str]:
    base, *parts = entry.split("/")
    past = parts[0] if parts else _add_e(base, "ed")
    participle = parts[1] if len(parts) > 1 else past
    if len(parts) > 2:
        ing = parts[2]
    elif base.endswith("ie"):
        ing = base[:-2] + "ying"
    elif base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        ing = base[:-1] + "ing"
    elif past == base + base[-1] + "ed" or _doubles(base):
        ing = base + base[-1] + "ing"
    else:
        ing = base + "ing"
    return base, _add_s(base), past, participle, ing


def _add_s(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word) and not word[0].isupper():
        return word[:-1] + "ies"
    return word + ("es" if word in ("go", "do", "veto") else "s")


def _add_e(word: str, ending: str) -> str:
    if word.endswith("e"):
        return word + ending[1:]
    if re.search(r"[^aeiou]y$", word):
        return word + ending if word == "shy" else word[:-1] + "i" + ending
    return word + word[-1] + ending if _doubles(word) else word + ending


def _add_ly(word: str) -> str:
    if word.endswith("ic"):
        return word + "ally"
    if re.search(r"[^aeiou]le$", word):
        return word[:-1] + "y"
    if re.search(r"[^aeiou]y$", word) and word != "shy":
        return word[:-1] + "ily"
    return word + ("y" if word.endswith("ll") else "ly")


def _doubles(word: str) -> bool:
    return re.fullmatch(r"(qu|[^aeiou])*[aeiou][^aeiouwxy]", word) is not None
