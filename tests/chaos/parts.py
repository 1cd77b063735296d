"""Two processes that prepare the parts of one folder, as on two machines, killed at their common end."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.chaos.faults import SURVIVED, TRACEBACK, WRONG, Findings
from tests.conftest import ROOT, write_corpus
from w2l_jax.dataset.store import EXCLUDED, INDEX, PREPARED, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest

PART = """
import sys
from w2l_jax.corpora import manifest
from w2l_jax.dataset.prepare import PrepareConfig, prepare_part
manifest_path, out, part = sys.argv[1:]
utterances, config = manifest.read(manifest_path), PrepareConfig(language="english")
print("ready", flush=True)
sys.stdin.readline()
prepare_part(utterances, out, config, (int(part), 2), workers=1, shard_size=2)
"""
COMMON_END = (".index.jsonl.tmp", EXCLUDED, INDEX, "inputs.sha256", ".prepared.json.tmp", PREPARED)


def parts(folder: Path, seed: int, count: int) -> Iterator[Findings]:
    """Kills both, or one, once a file of their common end exists; run again, the folder is as an undisturbed one."""
    rng, findings = np.random.default_rng(seed), Findings("killed prepare, two parts at once")
    folder = folder / "parts"
    folder.mkdir()
    manifest = write_corpus(folder, "parts", 12, 3)
    _end(_begin(manifest, folder / "whole"))
    expected, out = _content(folder / "whole"), folder / "out"
    for number in range(count):
        both, awaited = _begin(manifest, out), COMMON_END[number % len(COMMON_END)]
        deadline = time.monotonic() + 60
        while not (out / awaited).exists() and any(process.poll() is None for process in both):
            if time.monotonic() > deadline:
                findings.add(WRONG, f"{awaited} is not written in a minute")
                break
        time.sleep(rng.uniform(0, 0.003))
        killed = both if number % 3 else [both[int(rng.integers(2))]]
        for process in killed:
            process.kill()
        said, detail = _end(both), f"{awaited}, {len(killed)} killed"
        if (out / PREPARED).exists() and _content(out) != expected:
            findings.add(WRONG, f"{detail}: complete by its {PREPARED}, and another")
        else:
            findings.add(*_outcome(out, expected, said + _end(_begin(manifest, out)), detail))
        shutil.rmtree(out)
    yield findings


def _begin(manifest: Path, out: Path) -> list[subprocess.Popen]:
    """Both processes, which begin at the same moment."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [
        subprocess.Popen([sys.executable, "-c", PART, str(manifest), str(out), part], cwd=ROOT, **pipes)
        for part in "01"
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    return both


def _end(both: list[subprocess.Popen]) -> str:
    """What they printed until their end."""
    said = ""
    for process in both:
        with contextlib.suppress(BrokenPipeError):
            said += process.communicate(timeout=120)[0]
    return said


def _content(out: Path) -> object:
    """What a reader finds: the rows of shards, which a kill at the very end leaves behind, are not read again."""
    data = open_dataset(out)
    stored = {path.name: file_digest(path) for path in out.iterdir() if path.suffix != ".jsonl" or path.name == INDEX}
    return stored, [array.tobytes() for array in data.features_of(range(len(data)))]


def _outcome(out: Path, expected: object, said: str, detail: str) -> tuple[str, str]:
    if "Traceback" in said:
        return TRACEBACK, f"{detail}\n{said}"
    try:
        found = _content(out)
    except UserError as error:
        return WRONG, f"{detail}: run again, {error}"
    return (SURVIVED, "") if found == expected else (WRONG, f"{detail}: {found[0]}\nis not\n{expected[0]}")
