"""Contradictory options of a training job, found before any work."""

from collections.abc import Iterator

from w2l_jax import freezing
from w2l_jax.errors import UserError
from w2l_jax.model import LAYERS
from w2l_jax.training.options import DataOptions, FreezeOptions, TrainOptions
from w2l_jax.training.profile import traced_updates


def check(options: TrainOptions) -> None:
    """Raises UserError, naming both options, if two contradict each other."""
    for contradiction in _contradictions(options, freezing.parse_layers(options.frozen_layers)):
        raise UserError(contradiction)


def _contradictions(options: TrainOptions, frozen: frozenset[int]) -> Iterator[str]:
    freeze, data = options.freeze, options.data
    if options.from_scratch and options.init:
        yield "from_scratch and init contradict each other: give one"
    if options.from_scratch and frozen:
        yield "from_scratch trains every layer: omit frozen_layers"
    if frozen and not options.init:
        yield f"frozen_layers={options.frozen_layers} needs init=<run>, the network to freeze layers of"
    if options.reinitialize and not frozen:
        yield "reinitialize keeps only the frozen layers: give frozen_layers (or use from_scratch)"
    if freeze.verify and not frozen:
        yield "freeze.verify needs frozen_layers to check"
    late = f"freeze.unfreeze_after={freeze.unfreeze_after}"
    if freeze.unfreeze_after and not frozen:
        yield f"{late} needs frozen_layers to unfreeze"
    if freeze.unfreeze_after >= options.steps:
        yield f"{late} is never reached with steps={options.steps}: lower it, or omit it to keep the layers frozen"
    if options.optimizer.name == "muon" and set(range(1, LAYERS)) <= frozen and not freeze.unfreeze_after:
        yield "optimizer.name=muon trains layers 1 to 10, but frozen_layers freezes them: omit it (Adam)"
    if freeze.new_characters == "copy" and (not options.init or (options.reinitialize and LAYERS not in frozen)):
        yield "freeze.new_characters=copy copies output weights of init, but here they are reinitialised"
    if freeze.cache_activations:
        yield from _against_caching(options, frozen)
    elif freeze.activation_dtype != FreezeOptions.activation_dtype:
        yield "freeze.activation_dtype is the precision of freeze.cache_activations: give both or neither"
    if data.old_train and data.sorted_first_epoch:
        yield "data.sorted_first_epoch and data.old_train contradict each other: omit one"
    if not data.old_train and data.old_share != DataOptions.old_share:
        yield f"data.old_share={data.old_share} is the share of data.old_train: give both or neither"
    if not data.train:
        yield "no training data: data.train=<manifest.jsonl or prepared folder>"
    traced = traced_updates(options.log.profile)
    if traced and traced[-1] > options.steps:
        yield f"log.profile={options.log.profile} traces up to update {traced[-1]}, but steps={options.steps}"


def _against_caching(options: TrainOptions, frozen: frozenset[int]) -> Iterator[str]:
    if not freezing.frozen_prefix(frozen):
        yield (
            f"freeze.cache_activations stores the lowest layers' output, but frozen_layers={options.frozen_layers} "
            "does not freeze layer 1: freeze some, or omit freeze.cache_activations"
        )
    for used, name, reason in (
        (options.augment.on, "augment", "augmentation changes the input of the frozen layers at every step"),
        (
            options.freeze.unfreeze_after,
            "freeze.unfreeze_after",
            "stored activations are valid only while the layers are frozen",
        ),
        (options.model.dropout, "model.dropout", "dropout changes the output of the frozen layers at every step"),
    ):
        if used:
            yield f"freeze.cache_activations and {name} contradict each other: {reason}; omit one"
