"""Languages by name and code: one name for every spelling in options, corpora and manifests."""

import difflib
import functools

from w2l_jax.errors import UserError

_TABLE = """af afrikaans am amharic ar arabic as assamese az azerbaijani ba bashkir be belarusian bg bulgarian bn
bengali br breton ca catalan ce chechen cs czech cv chuvash cy welsh da danish de german el greek en english eo
esperanto es spanish et estonian eu basque fa persian fi finnish fo faroese fr french fy frisian ga irish gl galician
gn guarani gu gujarati ha hausa he hebrew hi hindi hr croatian hu hungarian hy armenian ia interlingua id indonesian
ig igbo is icelandic it italian ja japanese ka georgian kk kazakh km khmer kn kannada ko korean ku kurdish ky kyrgyz
la latin lb luxembourgish lg luganda lo lao lt lithuanian lv latvian mg malagasy mi maori mk macedonian ml malayalam
mn mongolian mr marathi ms malay mt maltese my burmese ne nepali nl dutch nn nynorsk no norwegian oc occitan or odia
pa punjabi pl polish ps pashto pt portuguese rm romansh ro romanian ru russian rw kinyarwanda sa sanskrit sd sindhi
si sinhala sk slovak sl slovenian so somali sq albanian sr serbian sv swedish sw swahili ta tamil te telugu tg tajik
th thai ti tigrinya tk turkmen tl tagalog tr turkish tt tatar ug uyghur uk ukrainian ur urdu uz uzbek vi vietnamese
wo wolof xh xhosa yi yiddish yo yoruba zh mandarin zu zulu""".split()
NAMES = dict(zip(_TABLE[::2], _TABLE[1::2], strict=True))
"""ISO 639-1 code → name."""
_CODES = {name: code for code, name in NAMES.items()}
_OTHERS = """eng en deu de ger de fra fr fre fr spa es ita it nld nl dut nl cmn zh zho zh chi zh pol pl por pt rus ru
tur tr jpn ja kor ko ara ar fas fa per fa farsi fa chinese zh nb no iw he castilian es flemish nl""".split()
_CODES |= dict(zip(_OTHERS[::2], _OTHERS[1::2], strict=True))


@functools.lru_cache(maxsize=256)
def language_code(language: str) -> str:
    """Returns the ISO 639-1 code of a language's name or code (`German`, `de-AT`, `deu`); others in lower case."""
    name = language.lower().strip()
    short = name.replace("_", "-").split("-")[0]
    return next((_CODES.get(form, form) for form in (name, short) if form in NAMES or form in _CODES), name)


def language_name(language: str) -> str:
    """Returns the English name, in lower case, of a language's name or code; others in lower case."""
    code = language_code(language)
    return NAMES.get(code, code)


def checked_name(language: str) -> str:
    """Returns `language_name`; raises UserError for what is probably a misspelt language. Others may be new."""
    name = language_name(language)
    near = difflib.get_close_matches(name, _CODES, n=1, cutoff=0.8) if name and name not in _CODES else []
    if near:
        raise UserError(f"unknown language {language!r}; did you mean {near[0]}?")
    return name
