import os
import signal
import textwrap
import time

import numpy as np
import pytest

from tests.decoding.conftest import run_script
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.errors import UserError

ALPHABET = Alphabet("abc '")


def utterances(count: int = 24) -> list[np.ndarray]:
    """Logits of many lengths: some without information, so that everything ties, some without frames."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 30, count)
    return [(i % 3) * rng.normal(size=(n, ALPHABET.size)).astype(np.float32) for i, n in enumerate(lengths)]


@pytest.fixture(scope="module")
def two_workers(toy_lm):
    with DecoderPool(ALPHABET, toy_lm, workers=2) as workers:
        yield workers


def test_transcripts_do_not_depend_on_workers_or_order(toy_lm, two_workers):
    """Each spawned process has its own hash seed, which would reveal an order taken from a set of strings."""
    logits = utterances()
    decoder = Decoder(ALPHABET, toy_lm)
    expected = [decoder.decode(logits_SxV) for logits_SxV in logits]
    with DecoderPool(ALPHABET, toy_lm, workers=1) as here:
        assert list(here.decode(logits)) == expected
    assert list(two_workers.decode(logits)) == expected
    assert list(two_workers.decode(logits[::-1])) == expected[::-1]


def test_nbest_and_hot_words(toy_lm):
    logits, hot_words = utterances(8), {"c": 8.0}
    decoder = Decoder(ALPHABET, toy_lm, hot_words=hot_words)
    expected = [decoder.nbest(logits_SxV, 4) for logits_SxV in logits]
    assert any(t.hot_score for found in expected for t in found)
    with DecoderPool(ALPHABET, toy_lm, workers=2, hot_words=hot_words) as workers:
        assert list(workers.nbest(logits, 4)) == expected


def test_options_can_change_without_new_workers(toy_lm, two_workers):
    logits = utterances(8)
    config = BeamConfig(lm_weight=0.0, word_bonus=5.0)
    expected = [Decoder(ALPHABET, toy_lm, config).decode(logits_SxV) for logits_SxV in logits]
    assert list(two_workers.decode(logits, config)) == expected
    assert list(two_workers.decode(logits)) != expected


def test_reads_only_a_few_utterances_ahead(two_workers):
    taken = []
    transcripts = two_workers.decode(taken.append(i) or logits for i, logits in enumerate(utterances(100)))
    next(transcripts)
    assert len(taken) <= 2 * 3 + 1
    transcripts.close()
    assert list(two_workers.decode([])) == []


def test_bad_logits_are_reported_from_a_worker(two_workers):
    with pytest.raises(UserError, match="frame 0"):
        list(two_workers.decode([np.full((2, ALPHABET.size), np.nan)]))


def test_a_killed_worker_raises():
    with DecoderPool(ALPHABET, None, workers=2) as workers:
        list(workers.decode(utterances(4)))
        next(iter(workers._pool._processes.values())).kill()
        with pytest.raises(UserError, match="killed"):
            list(workers.decode(utterances(50)))


def test_bad_arguments_fail_before_any_process_starts(toy_lm, tmp_path):
    with pytest.raises(UserError, match="0 decoding workers"):
        DecoderPool(ALPHABET, None, workers=0)
    with pytest.raises(UserError, match="not a language model"):
        DecoderPool(ALPHABET, tmp_path, workers=2)
    with pytest.raises(UserError, match="no word"):
        DecoderPool(Alphabet("xyz"), toy_lm, workers=2)


def test_workers_import_neither_jax_nor_the_script_and_die_with_it(toy_lm, tmp_path):
    """The script has no main guard and uses JAX; its workers do not import JAX, and end when it is killed."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, os, signal, sys
        import jax.numpy as jnp
        from w2l_jax.alphabet import Alphabet
        from w2l_jax.decoding.pool import DecoderPool

        logits = jnp.eye(6, dtype=jnp.bfloat16)[jnp.array([1, 2, 4, 1])] * 30
        with DecoderPool(Alphabet("abc '"), {str(toy_lm)!r}, workers=2) as workers:
            print([found.text for found in workers.decode([logits] * 9)])
            for process in [child.pid for child in multiprocessing.active_children()]:
                loaded = open(f"/proc/{{process}}/maps").read()
                print(process, "jaxlib" in loaded, "kenlm" in loaded)
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    done = run_script(script, cwd=tmp_path, JAX_PLATFORMS="cpu")
    assert done.returncode == -signal.SIGKILL, done.stderr
    first, *workers = done.stdout.splitlines()
    assert first == str(["ab a"] * 9)
    assert [line.split()[1:] for line in workers] == [["False", "True"]] * 2
    deadline = time.monotonic() + 10
    while running := [line for line in workers if os.path.exists(f"/proc/{line.split()[0]}/exe")]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
