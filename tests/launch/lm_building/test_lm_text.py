import json
import lzma

import pytest

from lm_building import lm_text as text
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.errors import UserError

GERMAN = preset("de")


def read(path, **options):
    reader = text.Reader(options.pop("alphabet", GERMAN), **options)
    return list(reader.sentences(path)), reader.counts


def write_manifest(path, texts):
    lines = [{"audio_filepath": f"{path.stem}{i}.wav", "text": line} for i, line in enumerate(texts)]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Er ging. Sie blieb.", ["Er ging. ", "Sie blieb."]),
        ("»Wer da?« »Ich!« Er kam … Über ihm", ["»Wer da?« ", "»Ich!« ", "Er kam … ", "Über ihm"]),
        ("am 3. mai um 5. Uhr", ["am 3. mai um 5. Uhr"]),
        ("Er war 17. Sie war 1984. Dann", ["Er war 17. Sie war 1984. ", "Dann"]),
        ("ein Wort. ein Wort", ["ein Wort. ein Wort"]),
        ("3.14 und A.B", ["3.14 und A.B"]),
        ("我来了。你呢？他说：「好。」走", ["我来了。", "你呢？", "他说：「好。」", "走"]),
        ("سلام. خوبی؟ بله", ["سلام. ", "خوبی؟ ", "بله"]),
        ("নমস্কার। কেমন", ["নমস্কার। ", "কেমন"]),
        ("", [""]),
    ],
)
def test_sentences_end_where_a_capital_follows(line, expected):
    assert list(text.split(line)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("but cried 'Don't!' to the", "but cried don't to the"),
        ("‘Vote for me’, ein ‚Wort‘ mehr", "vote for me ein wort mehr"),
        ("the hall,’ said he, ' and left", "the hall said he and left"),
        ("'tis rock 'n' roll, the dogs' bones", "'tis rock 'n' roll the dogs' bones"),
    ],
)
def test_single_quotation_marks_are_no_apostrophes(line, expected, tmp_path):
    (tmp_path / "a.txt").write_text(line, "utf-8")
    assert read(tmp_path / "a.txt")[0] == [expected]
    assert read(tmp_path / "a.txt", exclude=[line])[1].matching == 1


def test_plain_and_packed_text_read_alike(tmp_path):
    content = "\ufeffDer Hund bellt. Die Katze, sie schläft!\n\nZimmer 12 ist frei.\n"
    (tmp_path / "a.txt").write_text(content, "utf-8")
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(content.encode()))
    for path in tmp_path.iterdir():
        sentences, counts = read(path)
        assert sentences == ["der hund bellt", "die katze sie schläft"]
        assert (counts.sentences, counts.words, counts.dropped) == (2, 7, 1)
        assert counts.dropped_characters == {"1": 1, "2": 1}


def test_numbers_are_spelled_out_on_demand(tmp_path):
    pytest.importorskip("num2words")
    (tmp_path / "a.txt").write_text("Zimmer 12 ist 3,5 Meter hoch.\n", "utf-8")
    assert read(tmp_path / "a.txt", language="de", numbers=True)[0] == ["zimmer zwölf ist drei komma fünf meter hoch"]
    assert text.spells_numbers(True, "German", GERMAN)
    assert not text.spells_numbers(True, "de", Alphabet(GERMAN.characters + "0123456789"))
    with pytest.raises(UserError, match="num2words does not know"):
        text.spells_numbers(True, "tlh", GERMAN)


def test_a_chinese_character_is_a_word(tmp_path):
    (tmp_path / "a.txt").write_text("花园里的花都开了。我来了!\n", "utf-8")
    sentences, counts = read(tmp_path / "a.txt", alphabet=Alphabet(" 花园里的都开了我来"), language="zh")
    assert sentences == ["花 园 里 的 花 都 开 了", "我 来 了"]
    assert counts.words == 11


def test_a_transcript_is_one_sentence_and_held_out_ones_are_excluded(tmp_path):
    path = write_manifest(tmp_path / "m.jsonl", ["Eins. Zwei!", "drei", "vier"])
    sentences, counts = read(path, held_out_ids={"m1", "elsewhere"})
    assert sentences == ["eins zwei", "vier"]
    assert counts.held_out == 1


def test_a_prepared_folder_reads_like_its_manifest(tones, tmp_path):
    from w2l_jax.corpora import manifest
    from w2l_jax.dataset.prepare import prepare

    utterances = manifest.read(tones / "dev.jsonl")[:3]
    prepare(utterances, tmp_path / "dev", workers=1)
    folder = text.find([tmp_path / "*"])
    assert folder == [tmp_path / "dev"]
    assert dict(text.transcripts(folder[0])) == {utterance.id: utterance.text for utterance in utterances}
    sentences, counts = read(folder[0], held_out_ids={"dev_001"})
    assert (sentences, counts.held_out) == ([utterances[0].text, utterances[2].text], 1)


@pytest.mark.parametrize(
    ("deduplicate", "lines", "utterances"),
    [
        ("text", ["eins", "zwei", "drei"], ["ja", "nein", "ja"]),
        ("all", ["eins", "zwei", "drei"], ["ja", "nein"]),
        ("none", ["eins", "zwei", "eins", "zwei", "drei"], ["ja", "nein", "ja"]),
    ],
)
def test_repeated_lines_count_once_but_repeated_prompts_count_each_time(deduplicate, lines, utterances, tmp_path):
    """Lines are compared unchanged, also between files."""
    (tmp_path / "a.txt").write_text("Eins. Zwei.\n Eins. Zwei. \n", "utf-8")
    (tmp_path / "b.txt").write_text("Eins. Zwei.\nDrei.\n", "utf-8")
    reader = text.Reader(GERMAN, deduplicate=deduplicate)
    plain = [sentence for name in ("a.txt", "b.txt") for sentence in reader.sentences(tmp_path / name)]
    assert plain == (lines if deduplicate != "none" else ["eins", "zwei"] * 3 + ["drei"])
    assert list(reader.sentences(write_manifest(tmp_path / "m.jsonl", ["Ja!", "Nein.", "ja"]))) == utterances
    assert (reader.counts.repeated_lines, reader.counts.repeated_transcripts) == (2, 1)


@pytest.mark.parametrize(
    "exclude", [["Der Hund bellt.", "Er kommt. Sie geht."], ["der hund bellt", "er kommt sie geht"]]
)
def test_texts_are_excluded_from_plain_text_only(exclude, tmp_path):
    """As lines of their own or as consecutive sentences; not as parts of lines, and never among the utterances."""
    lines = ["Der Hund bellt. Er kommt! Sie geht.", "der hund, bellt", "Der Hund bellt laut. Sie geht.", "Er kommt."]
    (tmp_path / "a.txt").write_text("\n".join(lines), "utf-8")
    manifest = write_manifest(tmp_path / "m.jsonl", ["Der Hund bellt.", "Er kommt. Sie geht."])
    reader = text.Reader(GERMAN, exclude=exclude)
    assert list(reader.sentences(tmp_path / "a.txt")) == ["der hund bellt laut", "sie geht", "er kommt"]
    assert reader.counts.matching == 4
    assert list(reader.sentences(manifest)) == ["der hund bellt", "er kommt sie geht"]
    assert reader.counts.held_out == 0


def test_patterns_name_files_once_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.jsonl"):
        (tmp_path / name).touch()
    found = text.find([tmp_path / "c.jsonl", f"{tmp_path}/*.txt", tmp_path / "a.txt"])
    assert [path.name for path in found] == ["c.jsonl", "a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.txt", "ja\nschön".encode("latin1"), r"latin\.txt:2: not UTF-8"),
        ("cut.txt.xz", lzma.compress(b"hallo welt\n" * 1000)[:-40], "is the file complete"),
        ("bad.jsonl", b"{}\n", r"bad\.jsonl:1"),
    ],
)
def test_damaged_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_missing_and_unsupported_files(tmp_path):
    (tmp_path / "m.jsonl.gz").touch()
    for names, message in [(["no*.txt"], "no such text"), ([], "at least one"), ([tmp_path], "no such text")]:
        with pytest.raises(UserError, match=message):
            text.find(names)
    with pytest.raises(UserError, match="decompress"):
        text.find([tmp_path / "m.jsonl.gz"])
