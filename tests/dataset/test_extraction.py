import dataclasses
import multiprocessing
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from w2l_jax import features
from w2l_jax.dataset import extraction
from w2l_jax.dataset.prepare import PrepareConfig, prepare
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.workers import WorkerPool

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)


def extract(path, transcript="hello", max_seconds=35.0, **options):
    return extraction.extract(path, transcript, max_seconds, FeatureConfig(), **options)


def test_extract_features_computes_features(tmp_path):
    soundfile.write(tmp_path / "a.flac", NOISE, 16000)
    extracted = extract(tmp_path / "a.flac")
    assert extracted.features_TxM.dtype == np.float16
    assert extracted.features_TxM.shape == (126, 128)
    assert (extracted.seconds, extracted.low_rate) == (1.0, False)
    expected = features.compute(soundfile.read(tmp_path / "a.flac", dtype="float32")[0])
    np.testing.assert_array_equal(extracted.features_TxM, expected)


def test_audio_is_identified_by_content_and_low_rates_are_reported(tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE[:8000], 8000)
    (tmp_path / "a.flac").write_bytes((tmp_path / "a.wav").read_bytes())
    extracted = extract(tmp_path / "a.flac")
    assert (extracted.seconds, extracted.low_rate) == (1.0, True)


def test_unusable_audio_is_reported_with_its_reason(tmp_path):
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
    assert isinstance(extract(wav, max_seconds=1.0), extraction.Extracted)
    assert extract(wav, "x" * 64).reason == "label too long"  # 126 frames give 63 outputs
    assert isinstance(extract(wav, "xy" * 31), extraction.Extracted)


def test_a_flac_without_a_length_is_not_too_long(tmp_path):
    """Encoders that write to a pipe omit the length; libsndfile then reports 2^63 − 1 frames."""
    soundfile.write(tmp_path / "a.flac", NOISE, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    result = extract(tmp_path / "a.flac")
    assert isinstance(result, extraction.Extracted) or result.reason == "unreadable audio"


def test_a_truncated_recording_is_read_to_its_end_on_request(tmp_path, utterances):
    soundfile.write(tmp_path / "whole.flac", NOISE, 16000)
    content = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) * 3 // 4])
    assert extract(tmp_path / "cut.flac").reason == "truncated audio"
    found = extract(tmp_path / "cut.flac", truncated="read")
    assert 0.5 < found.seconds < 0.8 and found.cut
    full = extract(tmp_path / "whole.flac", truncated="read")
    assert full.seconds == 1.0 and not full.cut
    (tmp_path / utterances[0].audio.name).write_bytes(content[: len(content) * 3 // 4])
    cut = [dataclasses.replace(utterances[0], audio=tmp_path / utterances[0].audio.name), *utterances[1:4]]
    skipping = prepare(cut, tmp_path / "skip", workers=1)
    assert (len(skipping), skipping.excluded) == (3, {"truncated audio": 1})
    with pytest.warns(UserWarning, match="1 of 4 recordings are truncated or damaged"):
        reading = prepare(cut, tmp_path / "read", PrepareConfig(truncated="read"), workers=1)
    assert len(reading) == 4 and reading.fingerprint != skipping.fingerprint


def test_hours_in_a_small_file_without_a_length_are_not_decoded(tmp_path):
    """One megabyte of FLAC can hold days of silence."""
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


def test_order_does_not_depend_on_the_number_of_workers(corpus, utterances):
    tasks = [(u.audio, "a", 0.0, None) for u in utterances] + [(Path("absent.wav"), "a", 0.0, None)]
    one, two = (list(extraction.extract_all(iter(tasks), 35.0, FeatureConfig(), workers)) for workers in (1, 2))
    assert one[-1] == two[-1]
    assert one[-1].reason == "missing audio"
    for a, b in zip(one[:-1], two[:-1], strict=True):
        assert (a.sha256, a.seconds) == (b.sha256, b.seconds)
        np.testing.assert_array_equal(a.features_TxM, b.features_TxM)
    with pytest.raises(UserError, match="must not be negative"):
        next(extraction.extract_all(tasks, 35.0, FeatureConfig(), -1))


def test_a_slow_task_does_not_lose_later_ones():
    """While one worker sleeps, the other gets as far ahead as allowed; then both continue."""
    with WorkerPool(time.sleep, 2) as pool:
        assert list(pool.in_order([1.0] + [0.0] * 19)) == [None] * 20


def test_stopping_early_leaves_no_processes():
    with WorkerPool(abs, 2) as pool:
        first = pool.in_order(range(-9, 0))
        assert next(first) == 9
        first.close()
        assert list(pool.in_order([-100, -200, -300])) == [100, 200, 300]
        with pytest.raises(TypeError):
            list(pool.in_order([1, "x", 2]))
        assert list(pool.in_order([-5])) == [5]


def test_a_killed_worker_raises(tmp_path):
    """Killed while it sends megabytes: a shared pipe would stay locked for ever."""
    soundfile.write(tmp_path / "a.flac", np.zeros(16000 * 20, np.int16), 16000)
    extracted = extraction.extract_all([(tmp_path / "a.flac", "a", 0.0, None)] * 64, 35.0, FeatureConfig(), 2)
    next(extracted)
    time.sleep(1.5)  # the workers have finished the next results, which nobody reads
    multiprocessing.active_children()[-1].kill()
    with pytest.raises(UserError, match=r"worker process died.*fewer workers"):
        list(extracted)
    assert not multiprocessing.active_children()


def test_workers_do_not_rerun_the_callers_script(tmp_path, corpus):
    """A training script imports JAX, which workers do not need; scripts without a __main__ guard work, too."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "print('script runs')\n"
        "from pathlib import Path\n"
        "from w2l_jax.dataset import extraction\n"
        "from w2l_jax.features import FeatureConfig\n"
        f"tasks = [(Path({str(corpus.parent / 'u000.wav')!r}), 'a', 0.0, None)]\n"
        "extracted = list(extraction.extract_all(tasks, 35.0, FeatureConfig(), 2))\n"
        "print(len(extracted), Path(__file__).name, 'librosa.core' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, script], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.stdout == "script runs\n1 script.py False\n", done.stderr


def test_workers_import_few_packages(corpus):
    code = (
        "import sys; from pathlib import Path; from w2l_jax.dataset import extraction, prepare\n"
        "from w2l_jax.features import FeatureConfig\n"
        "assert not {'librosa', 'soundfile', 'tyro', 'rich'} & set(sys.modules), 'imported before use'\n"
        f"assert extraction.extract(Path({str(corpus.parent / 'u000.wav')!r}), 'a', 35.0, FeatureConfig()).sha256\n"
        "print(sorted({'jax', 'flax', 'optax', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
