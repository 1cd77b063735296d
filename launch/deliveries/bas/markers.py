"""Text of BAS annotations: their encodings, umlauts written as in LaTeX, and the transcribers' markers."""

import re

_UMLAUTS = dict(zip("aouAOUsS", "äöüÄÖÜßß", strict=True))
# No German word has "aü", so the quotation mark of a"u belongs to the a.
_AEU = re.compile(r'([aA])\\?"(?=u)')
_BEFORE = re.compile(r'\\?"([aouAOUsS])')
_AFTER = re.compile(r'([aouAOUsS])\\?"')
# The remains of an ISO-8859-1 "ä" in some newer annotations.
_ESCAPED_AE = re.compile(r"\\?xe4")

# `<#>` and `<Geräusch>` come with the TR2 tier, the square brackets from SpeechDat.
_MARKERS = re.compile(
    r"[<‹](?:usb|häs|hes|%|ähm?|hm|a|uhm?|geräusch|#)[>›]|#garbage#|\[[a-z]+\]|[*$~]", flags=re.IGNORECASE
)


def decode(content: bytes) -> str:
    """Returns the text of an annotation file: UTF-8 in newer deliveries, else ISO-8859-1, in which all bytes are
    valid.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("iso-8859-1")


def decode_umlauts(text: str) -> str:
    r"""Returns `text` with `"a "o "u "s` (or `a" o" u" s"`, with or without a backslash) as ä ö ü ß.

    A mark between two of these letters (`mu"s`) counts for the second one, as in the older convention; but `a"u` is äu.
    """
    text = _ESCAPED_AE.sub("ä", text)
    for pattern in (_AEU, _BEFORE, _AFTER):
        text = pattern.sub(lambda match: _UMLAUTS[match[1]], text)
    return text


def clean(label: str) -> str:
    """Returns the spoken part of a word's label: umlauts decoded, markers removed; "" if nothing is left."""
    return " ".join(_MARKERS.sub("", decode_umlauts(label)).replace("/", " ").split())
