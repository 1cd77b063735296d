"""The speech and the trainings of the grid."""

import math
from pathlib import Path

from pages.comparison import Decoded
from reproduction import curves
from reproduction.study import Study
from reproduction.tables import Row, Table, last


def data(study: Study) -> Table:
    """The base's test data, and the training and test data of each language."""
    out = []
    if base := study.base():
        out.append(_of_decoded(base, Path(study.scale.base_data).name, "the base's language"))
    for language in study.scale.languages:
        if dataset := study.training_data(language):
            count = {"utterances": len(dataset), "hours": dataset.hours, "speakers": len(dataset.speakers)}
            out.append({"data": Path(language.train).name, "use": f"training, {language.name}"} | count)
        for name in (language.dev, *language.tests):
            for cell in study.scale.cells():
                decoded = study.decoded(language, cell.variant, name) if cell.language == language else {}
                if decoded:
                    out.append(_of_decoded(next(iter(decoded.values())), Path(name).name, f"test, {language.name}"))
                    break
    return Table("data", "Speech data; 0 speakers: unknown", out)


def _of_decoded(decoded: Decoded, name: str, use: str) -> Row:
    records = decoded.records.values()
    speakers = len({record.get("speaker", "") for record in records} - {""})
    hours = sum(record["seconds"] for record in records) / 3600
    return {"data": name, "use": use, "utterances": len(records), "hours": hours, "speakers": speakers}


def runs(study: Study) -> Table:
    """Every started cell of the grid."""
    out = []
    for cell in study.scale.cells():
        course = study.course(cell)
        train, dev = (last(course, kind) for kind in ("train", "dev"))
        if not train:
            continue
        work, cost = curves.work(study, cell), study.certificate(cell)
        losses = [line["loss"] for line in course if line["kind"] == "train" and math.isfinite(line["loss"])]
        loss, ler = (dev[0]["loss"], 100 * dev[0]["ler"]) if dev else (None, None)
        step, seconds = train[0]["step"], train[0]["seconds"]
        out.append(
            {
                "run": cell.name, "updates": step, "planned": cell.language.steps,
                "minutes": seconds / 60, "seconds per update": seconds / step,
                "TFLOP": work.get(step), "FLOPs of k = 0 (%)": 100 * cost["flops_share_of_k0"] if cost else None,
                "largest training loss": max(losses, default=None),
                "dev loss": loss, "dev LER, greedy (%)": ler,
                "state": "complete" if study.complete(cell) else "running",
            }
        )  # fmt: skip
    caption = "Every training run; on a shared machine, compare costs by FLOPs rather than minutes"
    return Table("runs", caption, out)
