import itertools
import multiprocessing
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import features
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.corpora import Utterance
from w2l_jax.dataset import filters
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.workers import WorkerPool

ENGLISH = preset("english")


def spoken(text, name="a", language=""):
    return Utterance(name, Path(f"{name}.wav"), text, language=language)


@pytest.mark.parametrize("length", range(7))
def test_needed_frames_is_what_ctc_can_emit(length):
    """Against all 3^S paths over blank, a, b: exactly the labels that need at most S frames come out."""
    emitted = set()
    for path in itertools.product("-ab", repeat=length):
        emitted.add("".join(char for char, _ in itertools.groupby(path)).replace("-", ""))
    labels = ("".join(label) for n in range(8) for label in itertools.product("ab", repeat=n))
    assert emitted == {label for label in labels if filters.needed_frames(label) <= length}


@given(st.text("ab", max_size=30), st.integers(0, 100))
def test_label_too_long_at_the_exact_frame(transcript, frames):
    exclusion = filters.label_too_long(frames, transcript)
    assert (exclusion is None) == (-(-frames // 2) >= filters.needed_frames(transcript))
    assert exclusion is None or exclusion.reason == "label too long"


@given(st.lists(st.text(max_size=12), max_size=12), st.sampled_from(["english", "german", "french"]))
def test_every_text_is_usable_or_excluded(texts, language):
    alphabet = preset(language)
    given_ = [spoken(text, f"u{i}") for i, text in enumerate(texts)]
    transcripts, excluded = filters.check_texts(given_, alphabet, "drop_utterance")
    assert set(transcripts) | set(excluded) == {u.id for u in given_}
    assert not set(transcripts) & set(excluded)
    for transcript in transcripts.values():
        assert transcript
        assert set(transcript) <= set(alphabet.characters)
    if sum(e.reason == filters.UNKNOWN_CHARACTERS for e in excluded.values()) > max(1, len(texts) / 20):
        with pytest.raises(UserError, match="characters outside the alphabet"):
            filters.check_texts(given_, alphabet, "error")
    else:
        assert filters.check_texts(given_, alphabet, "error") == (transcripts, excluded)


def test_the_most_frequent_unknown_characters_are_shown_and_how_many_others():
    signs = "αβγδεζηθικλμν"
    texts = [spoken(f"a {signs[: i + 1]}", f"u{i:02d}") for i in range(13)] + [spoken("gut", "fine")]
    with pytest.raises(UserError) as caught:
        filters.check_texts(texts, preset("german"), "error")
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("13 of 14 texts hold characters outside the alphabet, and at most 5% may be skipped")
    assert lines[1] == "  α in 13 texts, such as u00: 'a α'"
    assert lines[10] == "  κ in 4 texts, such as u09: 'a αβγδεζηθικ'"
    assert lines[11] == "  … and 3 other characters"
    assert "unknown_characters=drop_utterance" in lines[-1]
    _, excluded = filters.check_texts(texts, preset("german"), "error", max_skipped=0.93)
    assert len(excluded) == 13


@pytest.mark.parametrize(
    ("tags", "said", "reasons"),
    [
        ("drop", {"a": "so we went", "c": "fine"}, {"b": "empty text"}),
        ("keep", {"a": "noise so we went", "b": "laughs", "c": "fine"}, {}),
        ("skip_utterance", {"c": "fine"}, {"a": "tags in the text", "b": "tags in the text"}),
    ],
)
def test_tags(tags, said, reasons):
    texts = [spoken("[noise] So we went.", "a"), spoken("(laughs)", "b"), spoken("Fine.", "c")]
    transcripts, excluded = filters.check_texts(texts, ENGLISH, tags=tags)
    assert transcripts == said
    assert {name: exclusion.reason for name, exclusion in excluded.items()} == reasons


def test_numbers_that_cannot_be_spelled_well_are_counted():
    pytest.importorskip("num2words")
    texts = [spoken("on 12/05/2020", "a"), spoken("at 10:30", "b")]
    transcripts, excluded = filters.check_texts(texts, ENGLISH, language="en", numbers=True)
    assert transcripts == {"b": "at ten thirty"}
    assert excluded["a"].reason == "numbers not spelled"


def test_empty_texts():
    _, excluded = filters.check_texts([spoken(" -- !?", "a"), spoken("", "b")], ENGLISH, "error")
    assert {name: e.reason for name, e in excluded.items()} == {"a": "empty text", "b": "empty text"}


def test_a_text_of_another_language_is_refused():
    filters.check_languages(
        [spoken("a", language=code) for code in ("", "en", "en-US", "English", "eng", "gsw")], "english"
    )
    with pytest.raises(
        UserError, match=r"b: its language is 'de', and english was asked for; choose the language german"
    ):
        filters.check_languages([spoken("a"), spoken("b", "b", "de")], "english")


NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)


def extract(path, transcript="hello", max_seconds=35.0):
    return filters.extract(path, transcript, max_seconds, FeatureConfig())


def test_listen_computes_features(tmp_path):
    soundfile.write(tmp_path / "a.flac", NOISE, 16000)
    extracted = extract(tmp_path / "a.flac")
    assert extracted.features_TxM.dtype == np.float16
    assert extracted.features_TxM.shape == (126, 128)
    assert (extracted.seconds, extracted.low_rate) == (1.0, False)
    expected = features.compute(soundfile.read(tmp_path / "a.flac", dtype="float32")[0])
    np.testing.assert_array_equal(extracted.features_TxM, expected)


def test_listen_finds_audio_by_content_and_low_rates(tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE[:8000], 8000)
    (tmp_path / "a.flac").write_bytes((tmp_path / "a.wav").read_bytes())
    extracted = extract(tmp_path / "a.flac")
    assert (extracted.seconds, extracted.low_rate) == (1.0, True)


def test_listen_says_why_not(tmp_path):
    wav, flac = tmp_path / "good.wav", tmp_path / "good.flac"
    soundfile.write(wav, NOISE, 16000)
    soundfile.write(flac, NOISE, 16000)
    nan = NOISE.copy()
    nan[77] = np.inf
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", NOISE[:0], 16000)
    soundfile.write(tmp_path / "hour.flac", np.zeros(16000 * 400, np.int16), 16000)
    for name, data in {
        "cut.wav": wav.read_bytes()[:9000],
        "cut.flac": flac.read_bytes()[:9000],
        "zero.wav": b"",
        "text.mp3": b"hello" * 100,
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.wav").mkdir()
    expected = {
        "absent.wav": "missing audio",
        "folder.wav": "missing audio",
        "bad\0name.wav": "missing audio",
        "zero.wav": "empty audio",
        "none.wav": "empty audio",
        "text.mp3": "unreadable audio",
        "cut.wav": "truncated audio",
        "cut.flac": "truncated audio",
        "nan.wav": "non-finite audio",
        "hour.flac": "too long",
    }
    for name, reason in expected.items():
        assert extract(tmp_path / name).reason == reason, name
    assert extract(wav, max_seconds=0.99).reason == "too long"
    assert isinstance(extract(wav, max_seconds=1.0), filters.Extracted)
    assert extract(wav, "x" * 64).reason == "label too long"  # 126 frames give 63 outputs
    assert isinstance(extract(wav, "xy" * 31), filters.Extracted)


def test_a_flac_of_unstated_length_is_no_long_one(tmp_path):
    """Encoders that write to a pipe leave the length out; libsndfile then states 2^63 − 1 frames."""
    soundfile.write(tmp_path / "a.flac", NOISE, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    result = extract(tmp_path / "a.flac")
    assert isinstance(result, filters.Extracted) or result.reason == "unreadable audio"


def test_hours_in_a_small_file_of_unstated_length_are_not_decoded(tmp_path):
    """Of silence, a FLAC holds days in a megabyte."""
    soundfile.write(tmp_path / "a.flac", np.zeros(16000 * 3600, np.int16), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    tracemalloc.start()
    result = extract(tmp_path / "a.flac", max_seconds=10)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    assert result.reason == "too long"


def test_listen_all_keeps_order_for_any_number_of_workers(corpus, utterances):
    tasks = [(u.audio, "a", 0.0, None) for u in utterances] + [(Path("absent.wav"), "a", 0.0, None)]
    one, two = (list(filters.extract_all(iter(tasks), 35.0, FeatureConfig(), workers)) for workers in (1, 2))
    assert one[-1] == two[-1]
    assert one[-1].reason == "missing audio"
    for a, b in zip(one[:-1], two[:-1], strict=True):
        assert (a.sha256, a.seconds) == (b.sha256, b.seconds)
        np.testing.assert_array_equal(a.features_TxM, b.features_TxM)
    with pytest.raises(UserError, match="must not be negative"):
        next(filters.extract_all(tasks, 35.0, FeatureConfig(), -1))


def test_a_slow_task_loses_no_later_ones():
    """While the first of them sleeps, the other worker gets as far ahead as it may; then both go on."""
    with WorkerPool(time.sleep, 2) as pool:
        assert list(pool.in_order([1.0] + [0.0] * 19)) == [None] * 20


def test_stopping_half_way_leaves_nothing_behind():
    with WorkerPool(abs, 2) as pool:
        first = pool.in_order(range(-9, 0))
        assert next(first) == 9
        first.close()
        assert list(pool.in_order([-100, -200, -300])) == [100, 200, 300]
        with pytest.raises(TypeError):
            list(pool.in_order([1, "x", 2]))
        assert list(pool.in_order([-5])) == [5]


def test_a_killed_worker_is_noticed(tmp_path):
    """Killed while it hands over megabytes, which is where a shared pipe would stay locked for ever."""
    soundfile.write(tmp_path / "a.flac", np.zeros(16000 * 20, np.int16), 16000)
    extracted = filters.extract_all([(tmp_path / "a.flac", "a", 0.0, None)] * 64, 35.0, FeatureConfig(), 2)
    next(extracted)
    time.sleep(1.5)  # the workers have finished the next results, and nobody takes them
    multiprocessing.active_children()[-1].kill()
    with pytest.raises(UserError, match=r"worker process died.*fewer workers"):
        list(extracted)
    assert not multiprocessing.active_children()


def test_workers_do_not_run_the_callers_script_again(tmp_path, corpus):
    """A training script imports JAX, which no worker needs; scripts without a __main__ guard work too."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "print('script runs')\n"
        "from pathlib import Path\n"
        "from w2l_jax.dataset import filters\n"
        "from w2l_jax.features import FeatureConfig\n"
        f"tasks = [(Path({str(corpus.parent / 'u000.wav')!r}), 'a', 0.0, None)]\n"
        "extracted = list(filters.extract_all(tasks, 35.0, FeatureConfig(), 2))\n"
        "print(len(extracted), Path(__file__).name, 'librosa.core' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, script], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.stdout == "script runs\n1 script.py False\n", done.stderr


def test_what_workers_import_is_light(corpus):
    code = (
        "import sys; from pathlib import Path; from w2l_jax.dataset import filters, prepare\n"
        "from w2l_jax.features import FeatureConfig\n"
        "assert not {'librosa', 'soundfile', 'tyro', 'rich'} & set(sys.modules), 'imported before use'\n"
        f"assert filters.extract(Path({str(corpus.parent / 'u000.wav')!r}), 'a', 35.0, FeatureConfig()).sha256\n"
        "print(sorted({'jax', 'flax', 'optax', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_table():
    assert filters.table({"too long": 2, "empty text": 1200}) == "     1,200  empty text\n         2  too long"


def test_alphabet_of_the_config_decides():
    assert filters.check_texts([spoken("ab")], Alphabet("ab"), "error")[0] == {"a": "ab"}
