"""Run folders like those of training and decoding, written by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reproduction.grid import Cell, Language, Scale, Variant

SAID = "abcdefghij"
EXPERIMENTS = (
    "figure2", "figure3", "figure5", "figure6", "figure7", "figure8", "table1", "table3", "forgetting", "unfreezing",
    "amounts",
)  # fmt: skip


def transcript(wrong: int) -> str:
    """The text with this many of its ten letters wrong."""
    return "x" * wrong + SAID[wrong:]


@pytest.fixture
def scale(tmp_path) -> Scale:
    german = Language(
        "german", "de_train", "de_dev", ("de_test",), experiments=EXPERIMENTS, amounts=(0.4, 0.1), steps=100,
        eval_every=10, seeds=2,
    )  # fmt: skip
    others = [
        Language(name, f"{name}_train", f"{name}_dev", distance=distance, experiments=("distance",), steps=100)
        for name, distance in (("dutch", "near"), ("mandarin", "far"))
    ]
    data = tmp_path / "data"
    data.mkdir()
    for language in (german, *others):
        for name in (language.train, language.dev, *language.tests):
            (data / f"{name}.jsonl").touch()
    (data / "en_dev.jsonl").touch()
    languages = (german, *others)
    return Scale(out=str(tmp_path / "out"), data=str(data), base_data="en_dev", title="Title", languages=languages)


@pytest.fixture
def write(scale) -> Callable[..., Path]:
    """Writes the run of a network: `write("german", Variant(8), wrong=[1, 2])`."""

    def write_run(name: str, variant: Variant, seeds: Sequence[int] | None = None, **course) -> None:
        (language,) = (language for language in scale.languages if language.name == name)
        for seed in range(language.seeds) if seeds is None else seeds:
            write_cell(scale, Cell(language, variant, seed), **course)

    return write_run


def write_cell(
    scale: Scale,
    cell: Cell,
    wrong: Sequence[int] = (1, 2) * 10,
    greedy: Sequence[int] = (),
    elsewhere: Sequence[int] = (),
    loss: Callable[[int], float] = lambda step: 200 - step,
    ler: Callable[[int], float] = lambda step: 1 - step / 200,
    old: float = 0.5,
    losses: Sequence[float] = (),
    seconds: float = 1.0,
    flops: float = 2e12,
    speakers: int = 1,
    finished: bool = True,
) -> None:
    """A run of 100 updates of 500 frames with an evaluation every ten, decoded on the language's data.

    `wrong` and `greedy` are how many of ten letters each utterance has wrong, with language model and without;
    `elsewhere` is `wrong` on data other than dev, `losses` are those of the utterances. `flops` and `seconds` are of an
    update, the former of 1000 frames.
    """
    folder = scale.run(cell)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "decode").mkdir()
    (folder / "run.json").write_text('{"format": 1}')
    (folder / "checkpoints" / "checkpoints.json").write_text(json.dumps({"last": 100, "finished": finished}))
    (folder / "certificate.json").write_text(json.dumps({"flops": flops, "frames": 1000, "flops_share_of_k0": 0.5}))
    lines = []
    for step in range(1, 101):
        block = -(-step // 10) * 10 * seconds
        lines.append({"kind": "train", "step": step, "seconds": block, "loss": loss(step), "padded_frames": 500})
        if step % 10 == 0:
            rates = {"ler": ler(step), "wer": 1.0, "seconds": block}
            lines.append({"kind": "dev", "step": step, "loss": loss(step), **rates})
            lines.append({"kind": "old_dev", "step": step, "loss": 1.0, **rates, "ler": old})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for data in (cell.language.dev, *cell.language.tests):
        found = wrong if data == cell.language.dev else elsewhere or wrong
        decoded(folder / "decode" / f"{data}.jsonl", found, greedy or found, losses or [100.0] * len(found), speakers)


def decoded(path: Path, wrong: Sequence[int], greedy: Sequence[int], losses: Sequence[float], speakers: int) -> None:
    """What decode.py --table writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {"id": f"u{i:03d}", "speaker": f"s{i % speakers}", "seconds": 1.8, "expected": SAID, "loss": loss}
        | {"predicted": transcript(mine), "greedy": transcript(plain), "without_lm": transcript(plain)}
        for i, (mine, plain, loss) in enumerate(zip(wrong, greedy, losses, strict=True))
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    path.with_suffix(".summary.json").write_text("[]")
