"""The results of the grid so far, seed by seed. Any of them may be missing."""

import functools
import json
from pathlib import Path
from typing import Any

from pages import comparison
from pages.comparison import Decoded
from reproduction import tasks
from reproduction.grid import Cell, Language, Scale, Variant
from w2l_jax.dataset.store import PREPARED, Dataset, open_dataset, read_meta
from w2l_jax.files import read
from w2l_jax.run import Run
from w2l_jax.training import log


class Study:
    """The results of a scale's grid, read from its folder."""

    def __init__(self, scale: Scale):
        self.scale = scale
        self._courses: dict[Cell, tuple[dict[str, Any], ...]] = {}

    def languages(self, experiment: str) -> list[Language]:
        """The languages of an experiment, if it is among the chosen ones."""
        if experiment not in self.scale.experiments:
            return []
        return [language for language in self.scale.languages if experiment in language.experiments]

    def cells(self, language: Language, variant: Variant) -> list[Cell]:
        """The started cells of a network, seed by seed."""
        return [cell for cell in self.scale.of(language, [variant]) if self.course(cell)]

    def course(self, cell: Cell) -> tuple[dict[str, Any], ...]:
        """The lines of a cell's metrics.jsonl; none if it has not started."""
        if cell not in self._courses:
            self._courses[cell] = log.read(self.scale.run(cell))
        return self._courses[cell]

    def complete(self, cell: Cell) -> bool:
        """Whether a cell's training is finished."""
        return Run.complete(self.scale.run(cell))

    def certificate(self, cell: Cell) -> dict[str, Any]:
        """The certificate of a cell's update; empty if unknown."""
        return _json(self.scale.run(cell) / "certificate.json", {})

    def decoded(self, language: Language, variant: Variant, data: str) -> dict[int, Decoded]:
        """Seed → the results of decode.py on `data`, a name of the language's data."""
        decoded = {}
        for cell in self.scale.of(language, [variant]):
            path = self.scale.run(cell) / "decode" / f"{Path(data).name}.jsonl"
            if path.is_file():
                decoded[cell.seed] = _decoded(path, cell.name, path.stat().st_mtime_ns)
        return decoded

    def base(self) -> Decoded | None:
        """The base on its own language."""
        path = tasks.base_decoded(self.scale)
        exists = self.scale.base_data and path.is_file()
        return _decoded(path, "base", path.stat().st_mtime_ns) if exists else None

    def training_data(self, language: Language) -> Dataset | None:
        """All training data of a language, if a network has started and its data still exist."""
        for cell in self.scale.cells():
            run = self.scale.run(cell)
            if cell.language == language and not cell.variant.hours and (run / "data.json").is_file():
                options, fingerprint = Run(run).data, _json(run / "data.json", {})["train"]
                path = Path(options["train"])
                for folder in (path, *Path(options["cache"]).glob(f"{path.stem}-*")):
                    if (folder / PREPARED).is_file() and read_meta(folder)["fingerprint"] == fingerprint:
                        return open_dataset(folder)
        return None

    def measured(self, subject: str) -> list[dict[str, Any]]:
        """The rows of a benchmark, column → cell; of columns with one name the first."""
        content = _json(tasks.measurements(self.scale, subject), {"tables": []})
        return [
            dict(reversed(list(zip(table["columns"], row, strict=True))))
            for table in content["tables"]
            for row in table["rows"]
        ]

    def about(self, subject: str) -> str:
        """The tables of a benchmark, and its device."""
        content = _json(tasks.measurements(self.scale, subject), {"tables": []})
        return "; ".join(f"{table['title']} ({content['device']})" for table in content["tables"])

    def seconds(self) -> dict[str, float]:
        """The seconds of each task."""
        return _json(Path(self.scale.out) / "seconds.json", {})


def _json(path: Path, otherwise: Any) -> Any:
    return read(path, json.loads) if path.is_file() else otherwise


@functools.lru_cache(maxsize=1024)  # counting errors takes seconds, and the report is rewritten often
def _decoded(path: Path, name: str, _changed: int) -> Decoded:
    return comparison.read_file(path, name)
