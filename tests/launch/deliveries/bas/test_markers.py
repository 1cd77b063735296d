import pytest

from deliveries.bas.markers import clean, decode, decode_umlauts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "iso-8859-1"])
def test_three_encodings(encoding):
    assert decode("schöne Grüße".encode(encoding)) == "schöne Grüße"


@pytest.mark.parametrize(
    ("written", "meant"),
    {
        'f"ur': "für",
        'fu"r': "für",
        'sch\\"on': "schön",
        'scho\\"n': "schön",
        '"Ubung': "Übung",
        'Ma"dchen': "Mädchen",
        'Fu"s': "Fuß",  # between two: the mark applies to the next letter …
        'gro"se': "große",
        'Ba"ume': "Bäume",  # … except for the a of au, as no word has aü
        'H"auser': "Häuser",
        'Tra"ume und Tr"aume': "Träume und Träume",
        'Stra"se': "Straße",
        "b\\xe4ten": "bäten",
        "Möbel": "Möbel",
        "a'b": "a'b",
    }.items(),
)
def test_umlauts_on_both_sides(written, meant):
    assert decode_umlauts(written) == meant


@pytest.mark.parametrize(
    ("label", "spoken"),
    {
        "<usb>": "",
        "‹häs>": "",
        "<%>": "",
        "‹äh>ja": "ja",
        '<"ahm>': "",
        '<h"as>': "",
        "<hm>": "",
        "<UHM>": "",
        "<uh>": "",
        "<hes>": "",
        "<a>": "",
        "#garbage#": "",
        "[fil]": "",
        "[sta]": "",
        "**": "",
        "*leider": "leider",
        "hal~": "hal",
        "$u-$s-$a": "u-s-a",
        "$A": "A",
        "/": "",
        "ja/nein": "ja nein",
        '<Ger"ausch>M"unche~': "Münche",
        "<#>": "",
        "<unknown>": "<unknown>",  # kept, so that preparing reports it
        "IC-Fahrt": "IC-Fahrt",
    }.items(),
)
def test_markers(label, spoken):
    assert clean(label) == spoken
