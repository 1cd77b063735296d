"""Every option of a training job, with the paper's values as defaults."""

import dataclasses
from typing import Any, Literal

from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig
from w2l_jax.transfer import NewCharacters


def _free(default: Any) -> Any:
    """A field that may change when a run is resumed: duration, frequency or place, not the computation."""
    return dataclasses.field(default=default, metadata={"resume": True})


def _was(name: str, default: Any, **metadata: Any) -> Any:
    """A field formerly called `name`."""
    return dataclasses.field(default=default, metadata={"was": name, **metadata})


def specified(options: Any) -> dict[str, Any]:
    """The options of a group that are not None."""
    values = ((field.name, getattr(options, field.name)) for field in dataclasses.fields(options))
    return {name: value for name, value in values if value is not None}


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The recordings to learn from: JSON-lines manifests or prepared folders."""

    train: str = ""
    """Training data; separate several by commas: a.jsonl,data/b=2,c=0.5 (per epoch, b twice and half of c's hours)."""
    dev: str = ""
    """Data for evaluation during training; without it, the last checkpoint counts as best."""
    old_train: str = _was("keep_old_language", "")
    """Training data of init's language, mixed into every batch to reduce forgetting."""
    old_share: float = 0.25
    """Its share of every batch."""
    old_dev: str = ""
    """Data of init's language, evaluated with dev to measure forgetting."""
    language: str = ""
    """Language of the transcripts, which determines the alphabet (default: the manifest's `lang`)."""
    train_hours: float = 0.0
    """Use a seeded subset of this many hours; subsets are nested (0: all)."""
    allow_speaker_overlap: bool = False
    """Accept speakers in both training and dev data (reports then mention it)."""
    cache: str = _free("data/prepared")
    """Folder in which manifests are prepared before use."""
    max_seconds: float = 35.0
    """Skip longer recordings (the paper's limit)."""
    unknown_characters: Literal["error", "drop_utterance"] = "error"
    """What to do with a transcript that holds characters outside the alphabet."""
    buckets: int = 6
    """Number of padded shapes; each costs one compilation."""
    sorted_first_epoch: bool = False
    """Sort the first epoch by length, short utterances first."""
    workers: int = _free(0)
    """Processes for preparing data (0: one per core)."""

    def __post_init__(self):
        if not 0 < self.old_share < 1:
            raise UserError(f"data.old_share is a share of every batch, between 0 and 1, not {self.old_share}")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The network; an adapted one has init's architecture."""

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
        ModelConfig(**specified(self))


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """The features; an adapted network has init's."""

    mels: int | None = None
    """Mel filters (None: init's, or the paper's 128: with 257, 25 of them are empty)."""
    order: Literal["mel_of_db", "db_of_mel"] | None = None
    """`mel_of_db` filters the decibel values as the paper's program did; `db_of_mel` is the usual convention
    (None: init's, or mel_of_db)."""

    def __post_init__(self):
        FeatureConfig(**specified(self))


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Random changes of the training features; off by default, as in the paper."""

    frequency_masks: int = 0
    """SpecAugment: bands of mel channels set to 0 per utterance."""
    frequency_width: int = 27
    """SpecAugment: largest band."""
    time_masks: int = 0
    """SpecAugment: spans of frames set to 0 per utterance."""
    time_width: int = 40
    """SpecAugment: longest span in frames, at most a fifth of the utterance."""
    speed: float = 0.0
    """Speed perturbation: play each utterance faster or slower by up to this share (0.1: 0.9 to 1.1)."""
    room: float = 0.0
    """Share of utterances that get the echo of a room, 0.2 to 0.8 s long."""
    noise: float = 0.0
    """Share of utterances that get steady noise of random colour, 5 to 35 dB below the speech."""
    microphone: float = 0.0
    """Simulate microphones: a random smooth frequency response within ± this many dB (such as 6)."""

    def __post_init__(self):
        if not 0 <= self.speed < 0.5:
            raise UserError(f"augment.speed must be in [0, 0.5), not {self.speed}")
        for name in ("room", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augment.{name} is a share of the utterances, 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.microphone <= 40:
            raise UserError(f"augment.microphone must be between 0 and 40 dB, not {self.microphone}")

    @property
    def on(self) -> bool:
        """Whether any augmentation is on."""
        return any((self.frequency_masks, self.time_masks, self.speed, self.room, self.noise, self.microphone))


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer: the paper's Adam with a constant learning rate, and alternatives."""

    name: Literal["adam", "muon"] = _was("optimizer", "adam")
    """The paper's Adam, or Muon on layers 1 to 10: faster from scratch, but each update takes as long as with
    seven more utterances.
    """
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
    """AdamW's weight decay of the trained kernels (0: none)."""
    clip_norm: float = 0.0
    """Clip the gradient of the trained layers to this norm (0: no clipping)."""
    average_decay: float = 0.0
    """Evaluate and store a moving average of the trained weights with this decay (such as 0.999; 0: no average)."""

    def __post_init__(self):
        if not self.epsilon > 0:
            raise UserError(f"optimizer.epsilon must be positive, not {self.epsilon}")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay must be at least 0, not {self.weight_decay}")
        if not 0 <= self.average_decay < 1:
            raise UserError(f"optimizer.average_decay must be in [0, 1), not {self.average_decay}")


@dataclasses.dataclass(frozen=True)
class FreezeOptions:
    """How init's network is adapted, besides `frozen_layers`."""

    init_checkpoint: str = "best"
    """Which of init's checkpoints: best, last or a stored step."""
    new_characters: NewCharacters = "zero"
    """Output weights of characters that init lacks: zero (the paper's) or copied from similar ones (ä: a, ß: s).
    """
    unfreeze_after: int = 0
    """Unfreeze all layers after this many updates (0: never)."""
    verify: bool = _was("verify_frozen", False)
    """Check at every evaluation and checkpoint that the frozen layers are bit-identical to the start of training."""
    cache_activations: bool = False
    """Compute the frozen layers' output once, store it in `data.cache`, and train only the layers above on it."""
    activation_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision of the stored activations; float16 is the most exact for its size but overflows at 65,504."""

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
    """Device memory; none of these changes the updates."""

    max_microbatch_frames: int = _free(0)
    """Cut each update into equal microbatches of at most this many padded frames on each device, and evaluations
    likewise (0: no)."""
    remat: bool = _free(False)
    """Recompute the wide layers 9 to 11 in the backward pass instead of storing their activations."""
    unfold: bool = _free(False)
    """Compute layer 9 as one matrix product: faster where convolutions are slow; 1 GB more at 64 × 12 s in bfloat16.
    """
    resident: Literal["auto", "on", "off"] = _free("auto")
    """Keep all training features on every device; auto: if they need at most a third of an accelerator's memory.
    """


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """The devices and processes that share every update."""

    count: int = _was("devices", 0, resume=True)
    """Devices per process (0: all, or as many as divide batch_size evenly)."""
    distributed: str = ""
    """Run as process i of n (from 0) with i/n@host:port, where process 0 runs; `auto` under Slurm or Open MPI.
    """

    def __post_init__(self):
        if self.count < 0:
            raise UserError(f"devices.count must be a number of devices, or 0 for all, not {self.count}")


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """What is logged and stored, and how often."""

    eval_every: int = _free(500)
    """Updates between evaluations on the dev data, each with a checkpoint."""
    checkpoint_every: int = _free(500)
    """Updates between checkpoints."""
    keep_steps: str = _free("")
    """Steps whose checkpoints are kept forever, such as 100,1000."""
    every: int = _was("log_every", 10, resume=True)
    """Updates between writes to metrics.jsonl, which has a line for each, and to the progress bar."""
    profile: str = _free("")
    """Updates to trace for TensorBoard's profiler and Perfetto: a range such as 100-104, or a number.
    """

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
    """Options to train a network, from scratch or by adapting another one with frozen layers."""

    config: str = _free("")
    """TOML file with options; the command line overrides it."""
    run: str = _free("")
    """Run folder to write (default: runs/<language>_k<frozen layers> or runs/<language>_scratch)."""
    resume: bool = _free(False)
    """Resume from the run's last checkpoint."""
    init: str = _free("")
    """Network to adapt: a run folder, a .safetensors file or an included network."""
    frozen_layers: str = "0"
    """Layers to freeze: k freezes the lowest k of eleven, `1-3,9` the listed layers."""
    from_scratch: bool = False
    """Train a fresh network, ignoring `init` of the TOML file."""
    reinitialize: bool = False
    """Reinitialise the layers that are not frozen instead of using `init`'s weights."""
    steps: int = _free(100_000)
    """Updates."""
    batch_size: int = 64
    """Utterances per update."""
    learning_rate: float = 1e-4
    """Adam's α; Muon's updates are scaled to the size of Adam's with the same α."""
    loss: Literal["ctc", "asg"] = "ctc"
    """Training criterion: CTC, or ASG, which has repetition symbols and learned transitions in place of the blank."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's arithmetic; parameters and losses stay float32."""
    seed: int = 0
    """Seed of initial weights, data order and augmentation."""
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
