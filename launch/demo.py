"""The paper's main experiment on synthesised speech: an English base, three German networks, one table."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import cli
from w2l_jax.errors import UserError
from w2l_jax.run import Run
from w2l_jax.training import log

HERE = Path(__file__).resolve().parent
CORPUS, LM = Path("data/demo"), Path("lm/demo_german")
ENGLISH = "runs/demo_english"
GERMAN = {
    "runs/demo_k8": ("from English, 8 layers frozen", ["--frozen_layers=8"]),
    "runs/demo_k0": ("from English, all layers trained", ["--frozen_layers=0"]),
    "runs/demo_scratch": ("from scratch", ["--from_scratch"]),
}
DESCRIPTION = """Run the paper's main experiment on speech synthesised by espeak-ng, in minutes on two cores.

Each step is a command that you could run yourself, printed before it runs. The same command again does only what is
missing and resumes what was interrupted.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    steps: int = 0
    """Updates of each training, for a quick look (0: those of the configurations)."""


def main() -> None:
    options = cli.parse(Options, description=DESCRIPTION)
    started = time.monotonic()
    _train(ENGLISH, "configs/demo_english.toml", [], options)
    for run, (_, arguments) in GERMAN.items():
        _train(run, "configs/demo.toml", arguments, options)
    text = f"--text={CORPUS}/german_text.txt,{CORPUS}/german_train.jsonl"
    _call("build_lm.py", text, f"--held_out={CORPUS}/german_dev.jsonl", "--language=german", f"--out={LM}")
    for run in GERMAN:
        _call("decode.py", f"--run={run}", f"--lm={LM}", "--worst=0")
    _call("decode.py", f"--run={ENGLISH}", "--lm=none", "--worst=0")
    minutes = (time.monotonic() - started) / 60
    print(f"\n{_table()}\n\n{minutes:.1f} minutes; LER and WER are means over the dev utterances")


def _train(run: str, configuration: str, arguments: list[str], options: Options) -> None:
    if Run.complete(run):
        print(f"{run} is already trained", flush=True)
        return
    limit = [f"--steps={options.steps}"] if options.steps else []
    resume = ["--resume"] if Run.exists(run) else []
    _call("train.py", f"--config={HERE.parent / configuration}", *arguments, f"--run={run}", *limit, *resume)


def _call(script: str, *arguments: str) -> None:
    print(f"\n$ python launch/{script} {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / script), *arguments])
    if done.returncode:
        raise UserError(
            f"launch/{script} stopped with exit code {done.returncode} (its message is above); run this again"
        )


def _table() -> str:
    columns = f"{'German dev set':<34}{'steps':>6}{'s/step':>8}{'GFLOP':>7}{'MiB':>6}{'loss':>8}"
    lines = [f"{columns}{'LER':>9}{'WER':>8}{'LER+LM':>9}{'WER+LM':>8}"]
    for run, (name, _) in {**GERMAN, ENGLISH: ("(the English base, on English)", [])}.items():
        folder = Path(run)
        cost = json.loads((folder / "certificate.json").read_text())
        last = [record for record in log.read(folder) if record["kind"] == "train"][-1]
        row = json.loads(next((folder / "decode").glob("*_dev.summary.json")).read_text())[-1]
        line = f"{name:<34}{last['step']:>6}{last['seconds'] / last['step']:>8.3f}{cost['flops'] / 1e9:>7.1f}"
        line += f"{cost['temporary_bytes'] / 2**20:>6.0f}{row['loss']:>8.2f}"
        lines.append(line + _rates(row["greedy"]) + (f" {_rates(row['beam'])[1:]}" if "beam" in row else ""))
    return "\n".join(lines)


def _rates(rates: dict[str, float]) -> str:
    return f"{rates['ler']:>9.1%}{rates['wer']:>8.1%}"


if __name__ == "__main__":
    cli.run(main)
