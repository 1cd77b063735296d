import _ctypes
import ctypes
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import demo_corpus as demo
from demo_corpus import dutch, english, german, grammar, mandarin, numerals, pinyin, room, speak, speakers
from demo_corpus import sentences as plan
from tests.conftest import ROOT
from w2l_jax import alphabet
from w2l_jax.errors import UserError
from w2l_jax.text import normalize

LANGUAGES = {"english": english, "german": german, "dutch": dutch, "mandarin": mandarin}
CODES = {"english": "en", "german": "de", "dutch": "nl", "mandarin": "zh"}
HOURS = {"english": 15 / 3600, "german": 10 / 3600, "dutch": 10 / 3600, "mandarin": 10 / 3600}
TINY = demo.DemoConfig(**{f"{name}_hours": hours for name, hours in HOURS.items()}, dev_utterances=3, text_lines=40)


def sentences(name: str, count: int) -> list[str]:
    language = LANGUAGES[name]
    source = grammar.Grammar(language.rules(grammar.load(name)), language.finish, random.Random(0))
    return [source.sentence() for _ in range(count)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.make_corpus(folder, TINY, workers=2)
    return folder


@pytest.fixture(scope="module")
def scripts():
    return {lang: plan.write_script(lang, 0.3, 120, 3000, seed=0) for lang in CODES.values()}


# Words and sentences


@pytest.mark.parametrize(
    ("name", "at_least", "unused", "accents", "accented"),
    [
        ("english", 5000, "", "", 0),
        ("german", 4000, "'", "äöüß", 1000),
        ("dutch", 4000, "áíóú", "éëèïöü", 60),
        ("mandarin", 2000, "v", "ü", 10),
    ],
)
def test_five_thousand_sentences_have_a_large_clean_vocabulary(name, at_least, unused, accents, accented):
    letters = alphabet.preset(name)
    written = pinyin.without_tones if name == "mandarin" else str
    drawn = [normalize(written(sentence), letters) for sentence in sentences(name, 5000)]
    assert {letters.unknown(sentence) for sentence in drawn} == {""}
    assert set("".join(drawn)) == set(letters.characters) - set(unused)
    words = {word for sentence in drawn for word in sentence.split()}
    assert len(words) >= at_least
    assert sum(bool(set(word) & set(accents)) for word in words) >= accented
    # No sentence is so frequent that a network could rely on it.
    assert len(set(drawn)) > 4900


def test_english_forms():
    rules = english.rules(grammar.load("english"))
    verbs = {
        base: tuple(rules[f"make.{form}"][i] for form in ("s", "ed", "en", "ing"))
        for i, base in enumerate(rules["make"])
    }
    assert verbs["carry"] == ("carries", "carried", "carried", "carrying")
    assert verbs["grab"] == ("grabs", "grabbed", "grabbed", "grabbing")
    assert verbs["take"] == ("takes", "took", "taken", "taking")
    assert verbs["prefer"] == ("prefers", "preferred", "preferred", "preferring")
    assert verbs["open"] == ("opens", "opened", "opened", "opening")
    assert verbs["fix"] == ("fixes", "fixed", "fixed", "fixing")
    plural = dict(zip(rules["animal"], rules["animal.s"], strict=True))
    assert [plural[w] for w in ("fox", "wolf", "fly", "donkey", "deer")] == [
        "foxes",
        "wolves",
        "flies",
        "donkeys",
        "deer",
    ]
    adverb = dict(zip(rules["manner"], rules["manner.ly"], strict=True))
    assert [adverb[w] for w in ("angry", "gentle", "frantic", "shy")] == ["angrily", "gently", "frantically", "shyly"]
    short = dict(zip(rules["short"], zip(rules["short.er"], rules["short.est"], strict=True), strict=True))
    assert [short[w] for w in ("big", "dry", "nice")] == [
        ("bigger", "biggest"),
        ("drier", "driest"),
        ("nicer", "nicest"),
    ]
    assert english.finish("a hour, a unicorn, a uncle and a owl") == "an hour, a unicorn, an uncle and an owl"


def test_german_forms():
    rules = german.rules(grammar.load("german"))

    def verb(group, infinitive):
        i = rules[group].index(infinitive)
        return [rules[f"{group}.{form}"][i] for form in ("er", "ich", "war", "waren", "ge")]

    assert verb("tun", "öffnen") == ["öffnet", "öffne", "öffnete", "öffneten", "geöffnet"]
    assert verb("tun", "sammeln") == ["sammelt", "sammle", "sammelte", "sammelten", "gesammelt"]
    assert verb("tun", "reparieren") == ["repariert", "repariere", "reparierte", "reparierten", "repariert"]
    assert verb("tun", "verkaufen")[-1] == "verkauft"
    assert verb("tun", "lesen") == ["liest", "lese", "las", "lasen", "gelesen"]
    assert verb("trennbar", "abholen")[::4] == ["holt {was} ab", "abgeholt"]
    assert verb("trennbar", "aufbewahren")[-1] == "aufbewahrt"
    for case, expected in {
        "nom": "der kleine Hund, ein kleiner Hund, die kleine Maus, eine Maus, das kleine Huhn, ein kleines Huhn",
        "acc": "den kleinen Hund, keinen kleinen Hund, diese kleine Maus, eine Maus, jedes kleine Huhn, ihr Huhn",
        "dat": "dem Hund, einem kleinen Hund, der kleinen Maus, meiner Maus, diesem kleinen Huhn, unserem kleinen Huhn",
    }.items():
        found = " ".join(rules[f"tier.{case}"])
        for noun, gender in {"Hund": "m", "Maus": "f", "Huhn": "n"}.items():
            found = found.replace(f"{{tier.{gender}{'' if case == 'nom' else '.obl'}}}", noun)
            assert noun in rules[f"tier.{gender}.obl"]
        found = re.sub(r"\{adjektiv\.(\w+)\}", r"klein\1", found)
        assert all(phrase in found for phrase in expected.split(", ")), case
    assert "Studenten" in rules["person.m.obl"]
    assert "Hunden" in rules["tier.pldat"]
    assert german.finish("in dem Haus bei der Frau zu dem Zug") == "im Haus bei der Frau zum Zug"


def test_dutch_forms():
    rules = dutch.rules(grammar.load("dutch"))

    def verb(group, infinitive):
        i = rules[group].index(infinitive)
        return " ".join(rules[f"{group}.{form}"][i] for form in ("hij", "ik", "was", "waren", "ge"))

    assert verb("doen", "maken") == "maakt maak maakte maakten gemaakt"
    assert verb("doen", "pakken") == "pakt pak pakte pakten gepakt"
    assert verb("doen", "redden") == "redt red redde redden gered"
    assert verb("doen", "delen") == "deelt deel deelde deelden gedeeld"
    assert verb("doen", "erven") == "erft erf erfde erfden geërfd"
    assert verb("doen", "haten") == "haat haat haatte haatten gehaat"
    assert verb("doen", "openen") == "opent open opende openden geopend"
    assert verb("doen", "repareren") == "repareert repareer repareerde repareerden gerepareerd"
    assert verb("doen", "verbeteren") == "verbetert verbeter verbeterde verbeterden verbeterd"
    assert verb("doen", "lezen") == "leest lees las lazen gelezen"
    assert verb("doen", "meten") == "meet meet mat maten gemeten"
    assert verb("lachen", "staan") == "staat sta stond stonden gestaan"
    assert verb("gaan", "verhuizen") == "verhuist verhuis verhuisde verhuisden verhuisd"
    i = rules["scheidbaar"].index("meenemen")
    assert rules["scheidbaar.was"][i] == "nam {wat} mee"
    assert [rules[f"scheidbaar.{form}"][i] for form in ("hij", "ge")] == ["neemt {wat} mee", "meegenomen"]
    phrases = " | ".join(rules["dier.np"])
    for expected in (
        "de {dier.de}; de {adjectief.e} {dier.de}; een {adjectief.e} {dier.de}; geen {adjectief.e} {dier.de}; "
        "het {adjectief.e} {dier.het}; een {adjectief} {dier.het}; mijn {adjectief.e} {dier.het}; "
        "geen {adjectief} {dier.het}; dit {dier.het}; ons {adjectief.e} {dier.het}; onze {dier.de}"
    ).split(";"):
        assert f"{expected.strip()}" in phrases, expected
    assert not re.search(r"(de|deze|elke|onze) (\{adjectief\S+ )?\{dier.het\}", phrases)
    assert {"hond", "muis"} <= set(rules["dier.de"])
    assert {"paard", "dier"} <= set(rules["dier.het"])
    plural = dict(zip(rules["ding"], rules["ding.mv"], strict=True))
    assert [
        plural[w] for w in ("pan", "foto", "tafel", "boom", "schip")
    ] == "pannen foto's tafels bomen schepen".split()
    form = dict(zip(rules["soort"], rules["soort.e"], strict=True))
    assert [form[w] for w in ("mooi", "groot", "dik", "lief", "houten")] == "mooie grote dikke lieve houten".split()
    assert {"mooier", "groter", "zwaarder", "beter"} <= set(rules["soort.er"])
    assert "eenentwintig" in rules["minuten"]
    assert "negentienhonderddrieënveertig" in rules["jaar"]


def test_mandarin_phrases_and_tones():
    rules = mandarin.rules(grammar.load("mandarin"))
    assert "zhe4 ben3 {dongxi.ben3} * 6" in rules["dongxi.np"]
    assert "shu1" in rules["dongxi.ben3"]
    assert "mao1" in rules["dongwu.zhi1"]
    assert len(rules["dongxi"]) == sum(len(words) for words in grammar.load("mandarin")["dongxi"].values())
    assert (rules["xiaoshu"][0], rules["shuwei"][1], rules["dian"][1]) == ("liang3", "yao1", "liang3")
    assert "yi1jiu3ba1wu3" in rules["nian"]
    for alone, in_speech in {
        "Ni3 hao3.": "Ni2 hao3.",
        "xiao3lao3shu3 he2 shui3": "xiao2lao2shu3 he2 shui3",
        "yi1 ge4 ren2, yi1 ben3 shu1, shi2yi1 ge4": "yi2 ge4 ren2, yi4 ben3 shu1, shi2yi1 ge4",
        "bu4 qu4, bu4 lai2, bu4xiang4": "bu2 qu4, bu4 lai2, bu2xiang4",
    }.items():
        assert mandarin.finish(alone) == in_speech


def test_mandarin_words_are_syllables_with_tones_known_to_espeak():
    text = " ".join(sentences("mandarin", 3000))
    words = set(re.findall(r"\w+", text))
    assert all(re.fullmatch(r"([A-Za-z]+[1-5])+", word) for word in words)
    syllables = sorted({syllable.lower() for word in words for syllable in re.findall(r"[A-Za-z]+\d", word)})
    assert len(syllables) > 600
    tones = {"1": "55", "2": "35", "3": "214", "4": "51", "5": "11"}
    wrong = [s for s, spoken in zip(syllables, phonemes("cmn-latn-pinyin", syllables), strict=True)
             if "(en)" in spoken or not re.search(rf"[^0-9]{tones[s[-1]]}(?!\d)", spoken)]  # fmt: skip
    assert wrong == []


def phonemes(voice: str, texts: list[str]) -> list[str]:
    library_path, data_path = speak._paths()
    library = ctypes.CDLL(library_path)
    assert library.espeak_Initialize(2, 0, os.fsencode(data_path), 0x8000) > 0
    assert library.espeak_SetVoiceByName(voice.encode()) == 0
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    spoken = [library.espeak_TextToPhonemes(ctypes.byref(ctypes.c_char_p(t.encode())), 1, 0).decode() for t in texts]
    library.espeak_Terminate()
    _ctypes.dlclose(library._handle)  # speak() needs a library without earlier calls
    return spoken


def test_a_rule_that_refers_to_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"'sentence'.*\['nuon'\]"):
        grammar.Grammar({"sentence": ["the {nuon}"]}, str, random.Random(0))


# The plan


@pytest.mark.parametrize("lang", CODES.values())
def test_no_sentence_occurs_twice_and_lengths_are_right(scripts, lang):
    script = scripts[lang]
    keys = ["".join(re.findall(r"\w", text.lower())) for text in [line.text for line in script.lines] + script.text]
    assert len(set(keys)) == len(keys)
    assert not any(char.isdecimal() for key in keys for char in key)
    assert all((line.text == line.spoken) == (lang != "zh") for line in script.lines)
    assert {line.split for line in script.lines} == {"train", "dev"}
    assert sum(line.split == "dev" for line in script.lines) == 120
    assert len(script.text) == 3000
    assert all(3 <= len(line.text.split()) <= 12 for line in script.lines)
    assert len({line.stem for line in script.lines}) == len(script.lines)


def test_withheld_words_occur_in_no_list():
    tables = grammar.load("english")
    known = grammar.withhold(tables, 0.05, seed=0)
    assert known == grammar.withhold(tables, 0.05, seed=0) != grammar.withhold(tables, 0.05, seed=1)

    def words(tables):
        return [word for key, lists in tables.items() if key != "rules" for words in lists.values() for word in words]

    withheld = set(words(tables)) - set(words(known))
    assert 0.04 < len(withheld) / len(set(words(tables))) < 0.07
    assert len(words(known)) + sum(word in withheld for word in words(tables)) == len(words(tables))


def test_dev_speakers_are_not_in_the_training_data():
    casts = {(lang, split): speakers.cast(lang, split, 0) for lang in CODES.values() for split in ("train", "dev")}
    assert {key: len(cast) for key, cast in casts.items()} == speakers.SPEAKERS
    names = [speaker.name for cast in casts.values() for speaker in cast]
    assert len(set(names)) == len(names)
    variants = {
        split: {s.voice.name.split("+")[1] for key, cast in casts.items() if key[1] == split for s in cast}
        for split in ("train", "dev")
    }
    assert not variants["train"] & variants["dev"]


# Speech


def test_every_voice_exists_and_has_a_plausible_speaking_rate():
    seconds = []
    for lang, text in {
        "en": "The quick brown fox jumps over the lazy dog.",
        "de": "Zwölf Boxkämpfer jagen Viktor.",
        "nl": "Pa's wijze lynx bezag vroom het fikse aquaduct.",
        "zh": "Jin1tian1 wo3men5 yi4qi3 qu4 Bei3jing1 kan4 peng2you5.",
    }.items():
        for split in ("train", "dev"):
            for speaker in speakers.cast(lang, split, 0):
                speech, rate = speak.speak(text, speaker.voice)
                assert rate == 22050
                assert 0.05 < np.abs(speech).max() < 1
                seconds.append(len(speech) / rate * speaker.voice.rate / 175 / len(text))
    assert 0.04 < min(seconds) < max(seconds) < 0.08


def test_synthesis_does_not_depend_on_earlier_calls():
    voice = speak.Voice("de+m2")
    first, _ = speak.speak("Fünf große Äpfel.", voice)
    speak.speak("Something else.", speak.Voice("en-us+f3"))
    again, _ = speak.speak("Fünf große Äpfel.", voice)
    np.testing.assert_array_equal(first, again)


def test_umlauts_change_the_sound():
    assert len(speak.speak("schön", speak.Voice("de"))[0]) != len(speak.speak("sch n", speak.Voice("de"))[0])


@pytest.mark.parametrize("name", ["en-us+nobody", "nobody", "nobody+f2"])
def test_an_unknown_voice_is_an_error(name):
    with pytest.raises(UserError, match=re.escape(repr(name))):
        speak.speak("Hello there.", speak.Voice(name))


def test_silence_is_an_error():
    with pytest.raises(UserError, match="no samples"):
        speak.speak(" ", speak.Voice("en-us"))


def test_a_long_data_path_is_shortened(tmp_path):
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    short = speak._short(str(folder))
    assert len(short) < 120
    assert os.path.samefile(short, folder)


@pytest.mark.parametrize("missing", ["espeakng_loader", "num2words"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(speak, "_found_paths", None)
    with pytest.raises(UserError, match=r"pip install 'w2l_jax\[demo\]'"):
        speak.speak("Hello.", speak.Voice("en")) if missing == "espeakng_loader" else numerals.speller("en", "cardinal")


def test_reverberation_and_noise_match_their_options():
    time_ = np.arange(22050) / 22050
    speech = np.concatenate([np.sin(2 * np.pi * 300 * time_), np.zeros(8000)]).astype(np.float32)
    peaks, ratios = [], []
    for seed in range(60):
        sound = room.place_in_room(speech, 22050, np.random.default_rng(seed)).astype(np.float64) / 32767
        assert 16_000 * 1.1 <= len(sound) <= 16_000 * 1.4
        peaks.append(20 * np.log10(np.abs(sound).max()))
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        hertz = np.fft.rfftfreq(len(sound), 1 / 16_000)
        ratios.append(10 * np.log10(spectrum[abs(hertz - 300) < 10].sum() / spectrum[abs(hertz - 300) > 60].sum()))
    assert -15.1 < min(peaks) < -12
    assert -4 < max(peaks) < -0.9
    assert min(ratios) < 20
    assert max(ratios) > 26


# The corpus on disk


def test_audio_and_manifests_agree(corpus):
    soundfile = pytest.importorskip("soundfile")
    stems, speakers_by_split = [], {"train": set(), "dev": set()}
    for name in [f"{language}_{split}" for language in CODES for split in ("train", "dev")]:
        entries = [json.loads(line) for line in (corpus / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for entry in entries:
            samples, rate = soundfile.read(corpus / entry["audio_filepath"], dtype="float64")
            info = soundfile.info(corpus / entry["audio_filepath"])
            assert (rate, samples.ndim, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")
            assert entry["duration"] == len(samples) / 16_000
            assert 1 < entry["duration"] < 7
            assert 0.1 < np.abs(samples).max() < 0.9
            assert np.mean(samples**2) > 1e-5
            assert entry["source"] == f"demo_{name.split('_')[0]}"
            assert entry["lang"] == CODES[name.split("_")[0]]
            stems.append(Path(entry["audio_filepath"]).stem)
            speakers_by_split[name.split("_")[1]].add(entry["speaker"])
        if name.endswith("train"):
            seconds = 3600 * HOURS[name.split("_")[0]]
            assert 0.7 * seconds < sum(entry["duration"] for entry in entries) < 1.6 * seconds
        else:
            assert len(entries) == 3
    assert len(set(stems)) == len(stems)
    assert not speakers_by_split["train"] & speakers_by_split["dev"]
    assert len((corpus / "german_text.txt").read_text("utf-8").splitlines()) == 40


def test_the_same_configuration_gives_the_same_bytes(corpus, tmp_path):
    demo.make_corpus(tmp_path / "other", TINY, workers=1)
    assert files(tmp_path / "other") == files(corpus)


def test_a_complete_corpus_is_recognised_quickly(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    start = time.monotonic()
    demo.make_corpus(corpus, TINY)
    assert time.monotonic() - start < 1
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_only_missing_or_damaged_recordings_are_synthesised_again(corpus):
    before = files(corpus)
    audio = sorted((corpus / "audio").rglob("*.flac"))
    audio[0].unlink()
    audio[1].write_bytes(b"not audio")
    (corpus / "german_text.txt").unlink()
    kept = {path: path.stat().st_mtime_ns for path in audio[2:]}
    calls = []
    demo.make_corpus(corpus, TINY, workers=1, progress=lambda *call: calls.append(call))
    assert files(corpus) == before
    assert {path: path.stat().st_mtime_ns for path in audio[2:]} == kept
    assert [call[0] for call in calls] == [len(audio) - 2, len(audio) - 1, len(audio)]
    assert {call[1] for call in calls} == {len(audio)}


def test_a_corpus_made_before_a_language_was_added_stays_complete(tmp_path):
    config = demo.DemoConfig(english_hours=1e-4, german_hours=1e-4, dev_utterances=1, text_lines=2)
    demo.make_corpus(tmp_path, config, workers=1)
    assert not [name for name in files(tmp_path) if "dutch" in name or "mandarin" in name]
    marker = tmp_path / "corpus.json"
    old = {"english_hours": 1e-4, "german_hours": 1e-4, "dev_utterances": 1, "text_lines": 2, "seed": 0}
    assert json.loads(marker.read_text()) == {"version": 1, "config": old, "complete": True}
    before = marker.stat().st_mtime_ns
    demo.make_corpus(tmp_path, config, workers=1)
    assert marker.stat().st_mtime_ns == before
    marker.write_text(json.dumps({"version": 1, "config": {**old, "dutch_hours": 0.0}, "complete": True}))
    before = marker.stat().st_mtime_ns
    demo.make_corpus(tmp_path, config, workers=1)
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"dutch_hours is 0\.0, not 1\.0"):
        demo.make_corpus(tmp_path, demo.DemoConfig(**{**vars(config), "dutch_hours": 1.0}))


def test_another_configuration_is_refused(corpus):
    with pytest.raises(UserError, match=rf"{corpus}.*seed is 0, not 1.*delete the folder or choose another") as error:
        demo.make_corpus(corpus, demo.DemoConfig(**{**vars(TINY), "seed": 1}))
    assert "hours" not in str(error.value)


def test_a_damaged_marker_is_refused(tmp_path):
    (tmp_path / "corpus.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        demo.make_corpus(tmp_path, TINY)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="choose another folder"):
        demo.make_corpus(tmp_path / "file" / "demo", TINY)


def test_a_killed_run_leaves_no_workers_and_can_be_resumed(corpus, tmp_path):
    program = (
        "import demo_corpus as demo\n"
        "if __name__ == '__main__':\n"
        f"    demo.make_corpus({str(tmp_path / 'demo')!r}, demo.{TINY!r}, workers=1)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(demo.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, script], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("demo/audio/*/*.flac")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not (tmp_path / "demo" / "english_train.jsonl").exists()
        while _alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _alive(process.pid)
    finally:
        if _alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    demo.make_corpus(tmp_path / "demo", TINY, workers=1)
    assert {name: data for name, data in files(tmp_path / "demo").items() if not name.endswith(".part")} == files(
        corpus
    )


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_importing_the_package_is_cheap():
    heavy = "jax librosa espeakng_loader num2words soundfile soxr numpy"
    program = (
        "import sys; sys.path.insert(0, 'launch'); before = set(sys.modules); import demo_corpus; "
        f"print(sorted(set('{heavy}'.split()) & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
