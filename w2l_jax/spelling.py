"""Numbers, units and currencies in words, by language; what cannot be spelled well is left unchanged."""

import functools
import re

from w2l_jax.errors import UserError
from w2l_jax.languages import language_code

AUDIBLE = frozenset("%‰&@§#")
"""Characters that Unicode calls punctuation but that are spoken: unless spelled, a text must not lose them."""

# The word for the decimal mark in 3.5. All languages but those of _POINT write a comma, and 1,000 as 1.000 or 1 000.
_DECIMAL = {
    "en": "point", "de": "komma", "fr": "virgule", "es": "coma", "it": "virgola", "nl": "komma", "zh": "dian",
    "ca": "coma", "da": "komma", "fi": "pilkku", "no": "komma", "pl": "przecinek", "pt": "vírgula", "ro": "virgulă",
    "sv": "komma", "tr": "virgül", "zh in characters": "点",
}  # fmt: skip
_HANZI = "zh in characters"
_POINT = ("en", "zh", _HANZI, "ja", "ko", "th", "he")
_AND = {"en": "and", "de": "und", "fr": "et", "es": "y", "it": "e", "nl": "en", "pl": "i", "pt": "e", "sv": "och"}

_SYMBOLS = "% € $ £ km/h km² m² km cm mm kg °C m g ° l".split()
_UNITS = {
    "en": """percent euros dollars pounds kilometers_per_hour square_kilometers square_meters kilometers centimeters
        millimeters kilograms degrees_celsius meters grams degrees liters""",
    "de": """prozent euro dollar pfund kilometer_pro_stunde quadratkilometer quadratmeter kilometer zentimeter
        millimeter kilogramm grad_celsius meter gramm grad liter""",
    "fr": """pour_cent euros dollars livres kilomètres_par_heure kilomètres_carrés mètres_carrés kilomètres centimètres
        millimètres kilogrammes degrés_celsius mètres grammes degrés litres""",
    "es": """por_ciento euros dólares libras kilómetros_por_hora kilómetros_cuadrados metros_cuadrados kilómetros
        centímetros milímetros kilogramos grados_celsius metros gramos grados litros""",
    "it": """per_cento euro dollari sterline chilometri_orari chilometri_quadrati metri_quadrati chilometri centimetri
        millimetri chilogrammi gradi_celsius metri grammi gradi litri""",
    "nl": """procent euro dollar pond kilometer_per_uur vierkante_kilometer vierkante_meter kilometer centimeter
        millimeter kilogram graden_celsius meter gram graden liter""",
}
_ONE_UNIT = {  # after 1
    "en": """percent euro dollar pound kilometer_per_hour square_kilometer square_meter kilometer centimeter
        millimeter kilogram degree_celsius meter gram degree liter""",
    "de": _UNITS["de"],
}
_CENTS = {"en": ("and", "cents"), "de": ("",), "fr": ("",), "es": ("con",), "it": ("e",), "nl": ("",)}
_ORDINALS = {
    "en": "st|nd|rd|th", "fr": "ers?|res?|ères?|e|es|èmes?|mes?|ièmes?", "nl": "e|de|ste", "es": r"\.?[ºª]",
    "it": r"\.?[ºª]", "pt": r"\.?[ºª]",
}  # fmt: skip
_DECADES = {"en": "s", "de": "er|ern|ers"}
_YEARS = ("en", "de", "nl")  # in which 1984 is not a cardinal
_DATIVE = "am im vom zum beim dem den des einem einen eines ab bis seit".split()
_NOMINATIVE = "der die das".split()
_BEFORE_YEARS = "in since until by from of year before after".split()

_CLOCK = re.compile(r"\b([01]?\d|2[0-4])[:.]([0-5]\d)\s?Uhr\b")  # 14:30 Uhr is read 14 Uhr 30
_LONGEST_NUMBER = 12  # digits; longer numbers are read digit by digit, as are those that start with 0
_CHUNK = re.compile(
    r"(?:(?<!\w)['’](?=\d\ds))?(?P<money>[€$£]\s?)?(?P<number>\d(?:[.,:/\-–−\u00a0\u202f]?\d)*)"
    rf"(?:\s?(?P<unit>{'|'.join(map(re.escape, _SYMBOLS))})(?![\w/])|(?P<suffix>\.?[ºª]|[^\W\d_\u4e00-\u9fff]+))?"
    r"(?P<dot>\.(?=\s+\w))?"
)


def spell_numbers(text: str, language: str) -> str:
    """Writes the numbers of `text` as words of `language`: 1.250 km → eintausendzweihundertfünfzig kilometer.

    Thousands may be grouped by commas (English, Chinese, …), points or fixed spaces (elsewhere). Years, decades,
    ordinals, times, percentages, common units and currencies are spelled if the language's forms are known; numbers
    that begin with 0 or have more than 12 digits are read digit by digit. Dates, ranges, fractions, signs and other
    suffixes stay unchanged, as does everything without a language (""). Raises UserError if num2words is missing or
    does not know the language.
    """
    if not language:
        return text
    code = language_code(language)
    if not re.search(r"\d", text):
        return text
    _words(0, code, "cardinal")
    if code == "de":
        text = _CLOCK.sub(lambda match: f"{int(match[1])} Uhr {int(match[2]) or ''}", text)
        text = re.sub(r"(?<![\d.,:])1 Uhr\b", "ein Uhr", text)
    if code in ("zh", "ja") and re.search("[\u4e00-\u9fff]", text):  # written without spaces, and not in pinyin
        written = _HANZI if code == "zh" else code
        return _CHUNK.sub(lambda match: _spelled(match, written).replace(" ", "") or match[0], text)
    return _CHUNK.sub(lambda match: f" {words} " if (words := _spelled(match, code)) else match[0], text)


def spell_and(text: str, language: str) -> str:
    """Writes & as a word if the language's word is known."""
    word = _AND.get(language_code(language)) if "&" in text else None
    return text.replace("&", f" {word} ") if word else text


def _spelled(match: re.Match, code: str) -> str:
    """The words of a number and its unit or sign; "" if they are not known."""
    before = match.string[: match.start()]
    if re.search(r"(^|\s)[+\-–−]$", before):
        return ""
    parts = match["number"].split(":")
    if len(parts) == 2 and match["money"] is match["unit"] is match["suffix"] is match["dot"] is None:
        hour, minute = parts
        is_time = hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and int(hour) < 25 and int(minute)
        return f"{_cardinal(hour, code)} {_cardinal(minute, code)}" if is_time else ""
    group, mark = (",", r"\.") if code in _POINT else ("[.\u00a0\u202f]", ",")
    number = re.fullmatch(rf"(\d{{1,3}}(?:{group}\d{{3}})+|\d+)(?:{mark}(\d+))?", match["number"])
    if not number or (match["money"] and match["unit"]):
        return ""
    digits, decimals = re.sub(r"\D", "", number[1]), number[2] or ""
    if match["suffix"] or match["dot"]:
        plain = digits == match["number"] and not match["money"]
        word = re.split(r"\W+", before.lower().rstrip())[-1]
        return _with_suffix(int(digits), match["suffix"] or "", bool(match["dot"]), word, code) if plain else ""
    unit = (match["money"] or match["unit"] or "").strip()
    if unit:
        return _with_unit(digits, decimals, unit, code)
    if not decimals and len(match["number"]) == 4 and code in _YEARS:
        recent = code == "en" and re.search(rf"\b({'|'.join(_BEFORE_YEARS)})\s$", before.lower())
        if 1100 <= int(digits) < 2000 or (recent and 2010 <= int(digits) < 2100):
            return _year(int(digits), code)
    return _decimal(digits, decimals, code)


def _decimal(digits: str, decimals: str, code: str) -> str:
    if decimals and code not in _DECIMAL:
        return ""
    return " ".join([_cardinal(digits, code), *([_DECIMAL[code], _digits(decimals, code)] if decimals else [])])


def _with_unit(digits: str, decimals: str, unit: str, code: str) -> str:
    one = int(digits) == 1 and not decimals.strip("0")
    names = (_ONE_UNIT if one else _UNITS).get(code, "").split()
    if not names:
        return ""
    name = names[_SYMBOLS.index(unit)].replace("_", " ")
    amount = "ein" if one and code == "de" else ""
    if unit in "€$£" and len(decimals) == 2:
        amount = amount or _cardinal(digits, code)
        link, *cents = _CENTS[code]
        return " ".join([amount, name, *([link, _cardinal(str(int(decimals)), code), *cents] if int(decimals) else [])])
    return f"{amount or _decimal(digits, decimals, code)} {name}"


def _with_suffix(value: int, suffix: str, dot: bool, before: str, code: str) -> str:
    """The words of a number with letters after it, or with the full stop of a German ordinal."""
    if dot:
        if code == "de" and not suffix and value < 1000 and before in (*_DATIVE, *_NOMINATIVE):
            return _words(value, code, "ordinal") + ("n" if before in _DATIVE else "")
        return "" if code in _ENDING_IN_DOTS and not suffix else _with_suffix(value, suffix, False, before, code)
    if not suffix:
        return _decimal(str(value), "", code)
    if re.fullmatch(_ORDINALS.get(code, "$."), suffix):
        return _ordinal(value, suffix, code)
    if re.fullmatch(_DECADES.get(code, "$."), suffix) and (value % 10 == 0 if code == "en" else value > 1):
        words = _year(value, code) if 1100 <= value < 2100 else _words(value, code, "cardinal")
        return words + suffix if code == "de" else (words[:-1] + "ies" if words.endswith("y") else words + "s")
    return ""


_ENDING_IN_DOTS = ("de", "da", "no", "fi", "cs", "sk", "pl", "hu", "hr", "sl", "sr", "tr", "et", "lv", "is")


def _ordinal(value: int, suffix: str, code: str) -> str:
    if code == "fr" and "r" in suffix:
        return {1: "première" if suffix[0] in "rè" else "premier"}.get(value, "")
    words = _words(value, code, "ordinal")
    return words[:-1] + "a" if suffix.endswith("ª") and words.endswith("o") else words


def _year(value: int, code: str) -> str:
    words = _words(value, code, "year")
    return words.replace(" ", "") if code == "nl" else words


def _cardinal(digits: str, code: str) -> str:
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and int(digits[0]) == 0):
        return _digits(digits, code)
    return _words(int(digits), code, "cardinal")


def _digits(digits: str, code: str) -> str:
    return " ".join(_words(int(digit), code, "cardinal") for digit in digits)


@functools.lru_cache(maxsize=10_000)
def _words(number: int, code: str, kind: str) -> str:
    if code in ("zh", _HANZI):
        syllables = mandarin(number)
        letters = (_CHARACTERS[syllable] for syllable in re.findall(r"[a-z]+\d", syllables))
        return "".join(letters) if code == _HANZI else re.sub(r"\d", "", syllables)
    try:
        from num2words import num2words
    except ImportError:
        raise UserError("spelling numbers needs num2words: pip install 'w2l_jax[numbers]'") from None
    try:
        return num2words(number, lang=code, to=kind)
    except NotImplementedError:
        if kind != "cardinal":
            return ""
        raise UserError(f"num2words does not know the language {code!r}: spell the numbers in the texts") from None


_SYLLABLES = "ling2 yi1 er4 san1 si4 wu3 liu4 qi1 ba1 jiu3".split()
_MYRIADS = ("", "wan4", "yi4")
_PLACES = ("shi2", "bai3", "qian1", "wan4", "yi4")
_CHARACTERS = dict(zip((*_SYLLABLES, *_PLACES), "零一二三四五六七八九十百千万亿", strict=True))


def mandarin(value: int) -> str:
    """Returns 0 ≤ `value` < 10¹² in words with tones, written as GB/T 16159 joins them: 357 → `san1bai3 wu3shi2qi1`."""
    if value < 10:
        return _SYLLABLES[value]
    words: list[str] = []
    for i in (2, 1, 0):
        group = value // 10_000**i % 10_000
        if group:
            words += _group(group, first=not words)
            words[-1] += _MYRIADS[i]
    return " ".join(words)


def _group(value: int, first: bool) -> list[str]:
    """Words of 1…9999; `first`: nothing greater precedes it."""
    words: list[str] = []
    gap = not first and value < 1000
    for unit, name in ((1000, "qian1"), (100, "bai3")):
        digit = value // unit % 10
        if digit:
            words += ["ling2"] * gap + [_SYLLABLES[digit] + name]
        gap = bool(words or not first) and digit == 0
    tens, ones = divmod(value % 100, 10)
    if tens or ones:
        ten = "" if not tens else "shi2" if tens == 1 and first and not words else _SYLLABLES[tens] + "shi2"
        gap = gap or (not tens and bool(words))
        words += ["ling2"] * gap + [ten + (_SYLLABLES[ones] if ones else "")]
    return words
