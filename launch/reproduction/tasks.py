"""The grid's work as commands: their outputs, state and expected duration."""

import dataclasses
import json
import operator
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reproduction.grid import MEASURED, Cell, Language, Scale, Timing
from w2l_jax import config
from w2l_jax.errors import UserError
from w2l_jax.files import read, write_atomically
from w2l_jax.run import Run
from w2l_jax.training.options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Task:
    """One command of launch/."""

    name: str
    command: Callable[[], tuple[str, ...]]
    """Script and arguments; evaluated when it runs, since earlier tasks may create its inputs."""
    done: Callable[[], bool]
    kind: str
    """Tasks of one kind take equal time per unit of `weight`."""
    weight: float = 1.0
    needs: tuple[str, ...] = ()
    """Names of the tasks it depends on."""


def tasks(scale: Scale) -> list[Task]:
    """All tasks of the chosen experiments, in order of their dependencies."""
    cells = scale.cells()
    languages = list(dict.fromkeys(cell.language for cell in cells))
    out = [_base(scale)] if scale.trains_base else []
    out += [_decode_base(scale)] if scale.base_data else []
    out += [_measure(scale, subject) for subject in _subjects(scale)]
    out += [_language_model(scale, language) for language in languages]
    for cell in cells:
        out.append(_train(scale, cell))
        out += [_decode(scale, cell, name) for name in (cell.language.dev, *cell.language.tests)]
    return out


def typed(task: Task) -> str:
    """A task's command as a user would type it."""
    script, *arguments = task.command()
    return f"python launch/{script} {shlex.join(arguments)}"


def lasting(task: Task) -> str:
    """The command without parts that depend on time or place; "" if its data are gone."""
    try:
        return typed(task).replace(" --resume", "").replace(f"{ROOT}/", "")
    except UserError:
        return ""


def base(scale: Scale) -> Path:
    """The base: a run folder, or the name of an included network."""
    return Path(scale.base)


def measurements(scale: Scale, subject: str) -> Path:
    """Where benchmark.py writes its tables of a subject."""
    return Path(scale.out) / "benchmark" / f"{subject}.json"


def base_decoded(scale: Scale) -> Path:
    """Where decode.py writes the base's transcripts of its own language."""
    return Path(scale.out) / "base" / f"{Path(scale.base_data).name}.jsonl"


def _base(scale: Scale) -> Task:
    def command():
        data = [f"--data.train={scale.find(scale.base_train)}"] if scale.base_train else []
        data += [f"--data.dev={scale.find(scale.base_data)}"] if scale.base_train and scale.base_data else []
        resume = ["--resume"] if Run.exists(scale.base) else []
        return ("train.py", *_config(scale.base_config), f"--run={scale.base}", *data, *resume)

    return Task("base", command, lambda: Run.complete(scale.base), "base")


def _config(name: str) -> list[str]:
    return [f"--config={ROOT / name}"] if name else []


def _decode_base(scale: Scale) -> Task:
    out = base_decoded(scale)

    def command():
        data = scale.find(scale.base_data)
        return ("decode.py", f"--run={base(scale)}", f"--data={data}", "--lm=none", "--worst=0", f"--out={out}")

    return Task("decode base", command, out.with_suffix(".summary.json").exists, "decode", needs=("base",))


def _subjects(scale: Scale) -> Sequence[str]:
    measured = {"figure4": ("step", "cache"), "memory": ("memory",)}
    return [subject for name in MEASURED if name in scale.experiments for subject in measured[name]]


def _measure(scale: Scale, subject: str) -> Task:
    out = measurements(scale, subject)
    # Section 6.3 is about the paper's own network: nothing runs, so its size does not matter.
    names = () if subject == "memory" else config.names(Timing)
    options = [f"--{name}={operator.attrgetter(name)(scale.timing)}" for name in names]
    command = ("benchmark.py", f"--what={subject}", "--plain", *options, f"--out={out}")
    return Task(f"measure {subject}", lambda: command, out.exists, subject)


def _folder_of_lm(scale: Scale, language: Language) -> Path:
    return Path(scale.out) / "lm" / language.name


def _lm_task(language: Language) -> str:
    return f"language model {language.name}"


def _language_model(scale: Scale, language: Language) -> Task:
    out = _folder_of_lm(scale, language)

    def command():
        text = [scale.find(language.train)] + ([scale.find_text(language.text)] if language.text else [])
        unseen = ",".join(map(scale.find, (language.dev, *language.tests)))
        options = (f"--text={','.join(text)}", f"--held_out={unseen}", f"--exclude_matching={unseen}")
        return ("build_lm.py", *options, f"--language={language.name}", f"--out={out}")

    return Task(_lm_task(language), command, (out / "card.json").exists, "lm")


def _train(scale: Scale, cell: Cell) -> Task:
    run, language, variant = scale.run(cell), cell.language, cell.variant

    def command():
        data = [f"--data.train={scale.find(language.train)}", f"--data.dev={scale.find(language.dev)}"]
        if scale.base_data and variant in language.variants("forgetting"):
            data.append(f"--data.old_dev={scale.find(scale.base_data)}")
        if variant.hours:
            data.append(f"--data.train_hours={variant.hours:g}")
        if variant.frozen_layers is None:
            start = ["--from_scratch", *scale.scratch_arguments]
        else:
            start = [f"--init={base(scale)}", f"--frozen_layers={variant.frozen_layers}"]
        start += ["--reinitialize"] if variant.reinitialized else []
        start += [f"--freeze.unfreeze_after={language.steps // 2}"] if variant.unfrozen else []
        course = [f"--steps={language.steps}", f"--log.eval_every={language.eval_every}", f"--seed={cell.seed}"]
        # Figure 7 needs an early network.
        course += [f"--log.keep_steps={language.eval_every}"] if variant.frozen_layers == 0 else []
        return (
            "train.py", *_config(scale.train_config), f"--run={run}", f"--data.language={language.name}",
            *data, *start, *course, *language.arguments, *(["--resume"] if Run.exists(run) else []),
        )  # fmt: skip

    kind = f"train {language.name} {variant._replace(hours=0.0).name}"
    needs = () if variant.frozen_layers is None else ("base",)
    return Task(cell.name, command, lambda: Run.complete(run), kind, language.steps, needs)


def _decode(scale: Scale, cell: Cell, name: str) -> Task:
    run, lm = scale.run(cell), _folder_of_lm(scale, cell.language)
    out = run / "decode" / f"{Path(name).name}.jsonl"

    def command():
        data = f"--data={scale.find(name)}"
        # The last checkpoint: all are compared after the same number of updates. The same utterances as in training.
        training = config.load(TrainOptions, ROOT / scale.train_config) if scale.train_config else TrainOptions()
        unknown = training.data.unknown_characters
        options = ("--checkpoint=last", f"--lm={lm}", f"--unknown_characters={unknown}", "--table", "--worst=0")
        return ("decode.py", f"--run={run}", data, *options, f"--out={out}")

    done, needs = out.with_suffix(".summary.json").exists, (cell.name, _lm_task(cell.language))
    return Task(f"decode {cell.name} on {name}", command, done, f"decode {name}", needs=needs)


class Diary:
    """Durations and commands of the tasks so far, stored in a folder; forecasts the others."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.seconds: dict[str, float] = self._read("seconds.json")
        self.commands: dict[str, str] = self._read("commands.json")

    def _read(self, name: str) -> dict:
        file = self._folder / name
        return read(file, lambda text: dict(json.loads(text))) if file.is_file() else {}

    def add(self, task: Task, seconds: float) -> None:
        """Records a task's command and duration, added to that before an interruption."""
        self.seconds[task.name] = self.seconds.get(task.name, 0.0) + seconds
        self.commands[task.name] = lasting(task)
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("seconds.json", self.seconds), ("commands.json", self.commands)):
            write_atomically(self._folder / name, json.dumps(content, indent=1))

    def check(self, every: Sequence[Task]) -> None:
        """Raises UserError for a result made by another command than the current one."""
        for task in every:
            before, now = self.commands.get(task.name), task.done() and lasting(task)
            if before and now and before != now:
                raise UserError(
                    f"{self._folder}: {task.name} exists, but was made by another command; name another --out, or "
                    "delete its "
                    f"result\n  then: {before}\n  now:  {now}"
                )

    def left(self, every: Sequence[Task]) -> float | None:
        """Forecast seconds of the remaining tasks; None while a sort has no finished task.

        The forecast is the median of its kind (networks with equally many frozen layers), else of its sort (any
        network).
        """
        done = [task for task in every if task.done() and self.seconds.get(task.name)]
        kinds = _rates(done, self.seconds, lambda task: task.kind)
        sorts = _rates(done, self.seconds, lambda task: task.kind.split()[0])
        todo = [task for task in every if not task.done()]
        if any(task.kind.split()[0] not in sorts for task in todo):
            return None
        return sum(task.weight * kinds.get(task.kind, sorts[task.kind.split()[0]]) for task in todo)


def _rates(done: Sequence[Task], seconds: Mapping[str, float], key: Callable[[Task], str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for task in done:
        groups.setdefault(key(task), []).append(seconds[task.name] / task.weight)
    return {name: statistics.median(values) for name, values in groups.items()}
