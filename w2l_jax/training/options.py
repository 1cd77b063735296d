"""Every option of a training job, with the paper's values as defaults."""

import dataclasses
from typing import Any, Literal

from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig
from w2l_jax.transfer import NewCharacters


def _free(default: Any) -> Any:
    """A field that may change when a run is resumed: how long, how often, where, not what is computed."""
    return dataclasses.field(default=default, metadata={"resume": True})


def _was(name: str, default: Any, **metadata: Any) -> Any:
    """A field that was called `name` before."""
    return dataclasses.field(default=default, metadata={"was": name, **metadata})


def given(options: Any) -> dict[str, Any]:
    """The options of a group that are not None."""
    values = ((field.name, getattr(options, field.name)) for field in dataclasses.fields(options))
    return {name: value for name, value in values if value is not None}


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The recordings to learn from: JSON-lines manifests or prepared folders."""

    train: str = ""
    """Training data; several between commas, each with a weight on demand: a.jsonl,data/b=2."""
    dev: str = ""
    """Data for evaluation during training; without any, the last checkpoint counts as the best."""
    old_train: str = _was("keep_old_language", "")
    """Training data of the language that `init` was trained for, mixed into every batch against forgetting."""
    old_share: float = 0.25
    """Its share of every batch."""
    old_dev: str = ""
    """Data of that language, evaluated beside dev to show what is forgotten."""
    language: str = ""
    """Language of the transcripts, which decides the alphabet (default: the manifest's `lang`)."""
    train_hours: float = 0.0
    """Use a seeded subset of this many hours; subsets are nested (0: all)."""
    allow_speaker_overlap: bool = False
    """Accept speakers that are in both training and dev data (every report then says so)."""
    cache: str = _free("data/prepared")
    """Folder in which manifests are prepared before use."""
    max_seconds: float = 35.0
    """Longer recordings are left out (the paper's limit)."""
    unknown_characters: Literal["error", "drop_utterance"] = "error"
    """What to do with a transcript that holds characters outside the alphabet."""
    buckets: int = 6
    """Padded shapes; each costs one compilation."""
    sorted_first_epoch: bool = False
    """Take the first epoch in order of length, short utterances first."""
    workers: int = _free(0)
    """Processes for preparing data (0: one per core)."""

    def __post_init__(self):
        if not 0 < self.old_share < 1:
            raise UserError(f"data.old_share is a share of every batch, between 0 and 1, not {self.old_share}")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The network, as far as it is chosen here: an adapted one has init's architecture."""

    width: int | None = None
    """Channels of layers 1 to 8 (None: init's, or the paper's 250)."""
    top_width: int | None = None
    """Channels of layers 9 and 10 (None: init's, or the paper's 2000)."""
    activation: Literal["relu", "elu"] | None = None
    """Non-linearity of layers 1 to 10 (None: init's, or the paper's relu)."""
    initializer: Literal["xavier_uniform", "he_uniform"] | None = None
    """Fresh kernels (None: init's, or the paper's xavier_uniform, which halves the variance at every ReLU layer)."""
    dropout: float = 0.0
    """Share of activations dropped before each of layers 1 to 8 in training (the authors' option; 0 is off)."""

    def __post_init__(self):
        ModelConfig(**given(self))


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """What one column of features is, as far as it is chosen here: an adapted network has init's features."""

    mels: int | None = None
    """Mel filters (None: init's, or the paper's 128: with 257, 25 of them are empty)."""
    order: Literal["mel_of_db", "db_of_mel"] | None = None
    """`mel_of_db` filters the decibel values as the paper's program did; `db_of_mel` is the usual convention
    (None: init's, or mel_of_db)."""

    def __post_init__(self):
        FeatureConfig(**given(self))


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Random changes of the training features; off by default, as in the paper."""

    frequency_masks: int = 0
    """SpecAugment: bands of mel channels set to 0 per utterance."""
    frequency_width: int = 27
    """SpecAugment: largest band."""
    time_masks: int = 0
    """SpecAugment: stretches of frames set to 0 per utterance."""
    time_width: int = 40
    """SpecAugment: longest stretch in frames, at most a fifth of the utterance."""
    speed: float = 0.0
    """Speed perturbation: each utterance is played faster or slower by up to this share (0.1: 0.9 to 1.1)."""
    room: float = 0.0
    """Share of utterances that get the echo of a room, 0.2 to 0.8 s long."""
    noise: float = 0.0
    """Share of utterances that get steady noise of random colour, 5 to 35 dB below the speech."""
    microphone: float = 0.0
    """Other microphones: a random smooth curve over the frequencies, of up to this many dB up or down (6)."""

    def __post_init__(self):
        if not 0 <= self.speed < 0.5:
            raise UserError(f"augment.speed must lie in [0, 0.5), not {self.speed}")
        for name in ("room", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augment.{name} is a share of the utterances, 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.microphone <= 40:
            raise UserError(f"augment.microphone must lie between 0 and 40 dB, not {self.microphone}")

    @property
    def on(self) -> bool:
        """Whether anything is changed at all."""
        return any((self.frequency_masks, self.time_masks, self.speed, self.room, self.noise, self.microphone))


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How the trained layers move: the paper's Adam with a constant learning rate, and what else there is."""

    name: Literal["adam", "muon"] = _was("optimizer", "adam")
    """Adam, the paper's, or Muon on the kernels of layers 1 to 10 and Adam on the rest: more from each update from
    scratch. At the paper's width its own work is that of seven utterances, whatever the batch."""
    beta1: float = 0.9
    """Adam's β₁."""
    beta2: float = 0.999
    """Adam's β₂."""
    epsilon: float = 1e-8
    """Adam's ε."""
    warmup_steps: int = 0
    """Updates over which the learning rate rises from 0."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls to 0 at `steps`."""
    weight_decay: float = 0.0
    """Share of each trained kernel, times the learning rate, subtracted at every update (AdamW; 0: none)."""
    clip_norm: float = 0.0
    """Largest norm of the gradient of the trained layers (0: no clipping)."""
    average_decay: float = 0.0
    """Evaluate and store a moving average of the trained weights that forgets at this rate (such as 0.999; 0: no)."""

    def __post_init__(self):
        if not self.epsilon > 0:
            raise UserError(f"optimizer.epsilon must be positive, not {self.epsilon}")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay must be at least 0, not {self.weight_decay}")
        if not 0 <= self.average_decay < 1:
            raise UserError(f"optimizer.average_decay must be in [0, 1), not {self.average_decay}")


@dataclasses.dataclass(frozen=True)
class FreezeOptions:
    """How the network of `init` is adapted, beside `frozen_layers`."""

    init_checkpoint: str = "best"
    """Which of init's checkpoints: best, last or a stored step."""
    new_characters: NewCharacters = "zero"
    """Output weights of characters that `init` lacks: zero (the paper's), or a copy of those of the one it looks like
    (ä of a, é of e, ß of s)."""
    unfreeze_after: int = 0
    """Train every layer after this many updates with the frozen layers frozen (0: they stay frozen)."""
    verify: bool = _was("verify_frozen", False)
    """Check at every evaluation and before every checkpoint that the frozen layers are, byte for byte, what training
    began with."""
    cache_activations: bool = False
    """Compute what the frozen layers give once, store it below `data.cache`, and train the layers above on that."""
    activation_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision of these stored activations; float16 is the most exact for its size but overflows at 65,504."""

    def __post_init__(self):
        if self.unfreeze_after < 0:
            raise UserError(f"freeze.unfreeze_after must not be negative, but it is {self.unfreeze_after}")


@dataclasses.dataclass(frozen=True)
class StopOptions:
    """When training ends before `steps`."""

    max_hours: float = _free(0.0)
    """Stop after this much training time, evaluation not counted (0: no limit)."""
    patience: int = _free(0)
    """Stop after this many evaluations without a better dev LER (0: never)."""


@dataclasses.dataclass(frozen=True)
class MemoryOptions:
    """What is in the devices' memory; the updates stay the same."""

    max_microbatch_frames: int = _free(0)
    """Cut each update into equal microbatches of at most this many padded frames on each device, and evaluations
    likewise (0: no)."""
    remat: bool = _free(False)
    """Compute the wide layers 9 to 11 a second time instead of storing their activations."""
    unfold: bool = _free(False)
    """Write the windows of layer 9 out side by side, so that it is one matrix product: faster where convolutions
    are slow, for 0.8 to 1.6 GB more at 64 × 12 s in bfloat16."""
    resident: Literal["auto", "on", "off"] = _free("auto")
    """Put all training features on every device once, so that the host has nothing to read for an update; auto: where
    they take at most a third of an accelerator's memory that is free when training begins."""


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """The devices and processes that share every update."""

    count: int = _was("devices", 0, resume=True)
    """Devices of each process (0: all, or as many as share batch_size evenly)."""
    distributed: str = ""
    """Be one of several processes: `auto` under Slurm or Open MPI, else i/n@host:port with i from 0, 0 on that host."""

    def __post_init__(self):
        if self.count < 0:
            raise UserError(f"devices.count must be a number of devices, or 0 for all, not {self.count}")


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """What is measured, written and stored, and how often."""

    eval_every: int = _free(500)
    """Updates between evaluations on the dev data, each with a checkpoint."""
    checkpoint_every: int = _free(500)
    """Updates between checkpoints."""
    keep_steps: str = _free("")
    """Checkpoints to store for good, such as 100,1000."""
    every: int = _was("log_every", 10, resume=True)
    """Updates between lines in metrics.jsonl, TensorBoard and the progress bar."""
    profile: str = _free("")
    """Updates to trace for TensorBoard's profiler and Perfetto, such as 100-104; or how many, soon after the start."""

    def __post_init__(self):
        for name in ("eval_every", "checkpoint_every", "every"):
            if getattr(self, name) < 1:
                raise UserError(f"log.{name} must be at least 1, not {getattr(self, name)}")
        parsed = [part for part in self.keep_steps.split(",") if part]
        if not all(part.isdigit() for part in parsed):
            raise UserError(f"log.keep_steps={self.keep_steps!r}: give steps separated by commas, such as 100,1000")

    @property
    def kept_steps(self) -> frozenset[int]:
        """`keep_steps` as numbers."""
        return frozenset(int(part) for part in self.keep_steps.split(",") if part)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Trains a network, from scratch or by adapting another one with its lowest layers frozen."""

    config: str = _free("")
    """TOML file with options; the command line overrides it."""
    run: str = _free("")
    """Run folder to write (default: runs/<language>_k<frozen layers> or runs/<language>_scratch)."""
    resume: bool = _free(False)
    """Resume from the run's last checkpoint."""
    init: str = _free("")
    """Run folder whose network is adapted."""
    frozen_layers: str = "0"
    """Layers that stay as they are: k freezes the lowest k of eleven, `1-3,9` lists them."""
    from_scratch: bool = False
    """Train a fresh network, ignoring the configuration's `init`."""
    reinitialize: bool = False
    """Reinitialise the layers that are not frozen instead of using `init`'s weights."""
    steps: int = _free(100_000)
    """Updates."""
    batch_size: int = 64
    """Utterances per update."""
    learning_rate: float = 1e-4
    """Adam's α; Muon's updates are scaled to the size that Adam's have with the same α."""
    loss: Literal["ctc", "asg"] = "ctc"
    """Training criterion: CTC, or ASG, which has repetition symbols and learned transitions in place of the blank."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's arithmetic; parameters and losses stay float32."""
    seed: int = 0
    """Decides initial weights, order of data and augmentation."""
    optimizer: OptimizerOptions = OptimizerOptions()
    freeze: FreezeOptions = FreezeOptions()
    stop: StopOptions = StopOptions()
    memory: MemoryOptions = MemoryOptions()
    devices: DeviceOptions = DeviceOptions()
    log: LogOptions = LogOptions()
    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    features: FeatureOptions = FeatureOptions()
    augment: AugmentOptions = AugmentOptions()

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be positive, not {self.learning_rate}")
