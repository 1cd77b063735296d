"""The budget, and the options common to all variants."""

import dataclasses
import math
import re
from pathlib import Path

import jax

import w2l_jax
from latest import INCLUDED
from w2l_jax import config
from w2l_jax.errors import UserError
from w2l_jax.model import LAYERS
from w2l_jax.training.options import FreezeOptions, MemoryOptions, ModelOptions, TrainOptions
from w2l_jax.training.resolve import complete

GB = 1e9


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """The budget, and the training to plan."""

    memory: str = ""
    """Memory for the updates, such as 6GB or 800MiB (default: the device's, or a CPU's free memory)."""
    hours: float = 0.0
    """Time for training, including computing cached activations."""
    data: str = ""
    """Training data: a JSON-lines manifest or a prepared folder."""
    language: str = ""
    """Language of the transcripts, if the data do not name it."""
    init: str = ""
    """Network to adapt, such as a run folder (default: train_config's, or the included English network)."""
    from_scratch: bool = False
    """Plan for a network of --model.* instead of init's: training from scratch, or adapting a run of that size."""
    train_config: str = ""
    """TOML file for --config of launch/train.py; its training options apply here, too."""
    batch_size: int = 0
    """Utterances per update (default: train_config's, or 64)."""
    frozen_layers: str = "0,6,8,9,10"
    """The numbers k of frozen layers to compare, or `all` from 0 to 10."""
    compute_dtypes: str = ""
    """Precisions to compare (default: float32,bfloat16; on a CPU, which emulates bfloat16, only float32)."""
    epochs: float = 10.0
    """Recommend the lowest k that sees all data this often within the hours."""
    model: ModelOptions = ModelOptions()

    def __post_init__(self):
        if not self.data:
            raise UserError("no data: --data=<manifest.jsonl or prepared folder>")
        for name in ("hours", "epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"--{name} must be a positive number, not {getattr(self, name)}")
        if self.batch_size < 0:
            raise UserError(f"--batch_size must be at least 1, not {self.batch_size}")
        if self.init and self.from_scratch:
            raise UserError("--from_scratch and --init contradict each other: give one")
        _ = self.ks, self.dtypes, self.memory and parse_size(self.memory)

    @property
    def ks(self) -> tuple[int, ...]:
        """`frozen_layers` as numbers."""
        parts = [part.strip() for part in self.frozen_layers.split(",")]
        if parts == ["all"]:
            return tuple(range(LAYERS))
        if not all(part.isdigit() and int(part) < LAYERS for part in parts):
            raise UserError(f"--frozen_layers={self.frozen_layers}: give numbers from 0 to {LAYERS - 1}, or `all`")
        return tuple(sorted(set(map(int, parts))))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """`compute_dtypes`, or the useful ones on this device."""
        if not self.compute_dtypes:
            return ("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16")
        parts = tuple(part.strip() for part in self.compute_dtypes.split(","))
        if not set(parts) <= {"float32", "bfloat16"}:
            raise UserError(f"--compute_dtypes={self.compute_dtypes}: choose float32 and bfloat16")
        return parts


def parse_size(text: str) -> int:
    """Bytes from `6GB`, `800MiB` or `1.5 G`; raises UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT])(i?)B?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise UserError(f"--memory={text!r}: give a number and a unit, such as 6GB, 1.5GiB or 800MB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** ("kmgt".index(match[2].lower()) + 1))


def available_memory() -> int:
    """The memory limit of the device in bytes, or a CPU's free memory."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        raise UserError("the free memory is unknown: give --memory=<size>, such as 6GB") from None


def starting_point(plan: PlanOptions) -> tuple[TrainOptions, TrainOptions]:
    """The options of launch/train.py without further ones, and those common to all variants (UserError)."""
    start = config.load(TrainOptions, plan.train_config) if plan.train_config else TrainOptions()
    if start.freeze.unfreeze_after:
        raise UserError(
            f"{plan.train_config}: freeze.unfreeze_after trains every layer in the end: omit it and plan for "
            "--frozen_layers=0"
        )
    common = config.changed(start, {
        "config": plan.train_config, "data.train": plan.data, "data.language": plan.language or start.data.language,
        "batch_size": plan.batch_size or start.batch_size, "memory": MemoryOptions(),
        "init": "" if plan.from_scratch else plan.init or start.init or INCLUDED,
        "freeze.activation_dtype": FreezeOptions.activation_dtype,
        "devices.count": 1 if jax.device_count() > 1 else start.devices.count,
        "model": start.model if plan.model == ModelOptions() else plan.model,
    })  # fmt: skip
    if common.init:
        base = w2l_jax.load(common.init, common.freeze.init_checkpoint, lm="none")  # validated before any work
        common = complete(common, base)
        kept = dataclasses.replace(common.model, dropout=start.model.dropout)
        return dataclasses.replace(start, model=kept, features=common.features), common
    return complete(start, None), complete(common, None)
