"""The examples as a reader would run them."""

import json
import re
import subprocess
import sys

import numpy as np

import w2l_jax
from tests.conftest import ROOT, speak


def test_finetuning_in_a_loop_of_ones_own(tmp_path):
    import soundfile

    code = (ROOT / "examples" / "finetune.py").read_text()
    assert len(code.splitlines()) <= 60
    rng, rows = np.random.default_rng(0), []
    for i, text in enumerate(["ab cab", "bad dab", "cad ab", "add dad"]):
        soundfile.write(tmp_path / f"{i}.wav", speak(text, rng), 16_000)
        rows.append(json.dumps({"audio_filepath": f"{i}.wav", "text": f"{text.title()}!"}))
    (tmp_path / "de.jsonl").write_text("\n".join(rows))
    (tmp_path / "finetune.py").write_text(code.replace("BATCH, STEPS = 8, 200", "BATCH, STEPS = 4, 60"))
    command = [sys.executable, "finetune.py", "de.jsonl", "de.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", done.stdout)]
    assert len(losses) == 3 and losses[-1] < losses[0] / 2
    assert w2l_jax.load(tmp_path / "de.safetensors").transcribe(tmp_path / "0.wav").text == "ab cab"
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stdout, again.stderr) == (1, "", "de.safetensors exists; name another file\n")
    english, german = w2l_jax.load("english"), w2l_jax.load(tmp_path / "de.safetensors")
    assert (german.language, german.step, german.card) == ("german", 60, "")
    for number in range(1, 12):
        name = f"layer_{number:02d}"
        # The included network and the saved one are stored in bfloat16, so frozen layers are equal bit for bit.
        same = np.array_equal(english.params[name]["kernel"][..., :29], german.params[name]["kernel"][..., :29])
        assert same == (number <= 8)
