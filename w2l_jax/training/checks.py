"""Contradictions among the options of a training job, found before any work."""

from w2l_jax import freezing
from w2l_jax.errors import UserError
from w2l_jax.model import LAYERS
from w2l_jax.training.old_language import parse_share
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.profile import traced_updates


def check(options: TrainOptions) -> None:
    """Refuses contradictions before any work (UserError)."""
    frozen = freezing.parse_layers(options.frozen_layers)
    if options.from_scratch and options.init:
        raise UserError("--from_scratch and --init contradict each other: give one")
    if options.from_scratch and frozen:
        raise UserError("--from_scratch trains every layer: leave --frozen_layers away")
    if frozen and not options.init:
        raise UserError(
            f"--frozen_layers={options.frozen_layers} needs --init=<run>, the network whose layers are kept"
        )
    if options.reinitialize and not frozen:
        raise UserError("--reinitialize keeps the frozen layers only: give --frozen_layers (or use --from_scratch)")
    if options.verify_frozen and not frozen:
        raise UserError("--verify_frozen has nothing to check: give --frozen_layers")
    if options.unfreeze_after and not frozen:
        raise UserError(f"--unfreeze_after={options.unfreeze_after} needs --frozen_layers, those to train from then on")
    if options.unfreeze_after >= options.steps:
        raise UserError(
            f"--unfreeze_after={options.unfreeze_after} is never reached with --steps={options.steps}: lower it, or "
            "leave it away to keep the layers frozen"
        )
    if options.optimizer == "muon" and set(range(1, LAYERS)) <= frozen and not options.unfreeze_after:
        raise UserError("--optimizer=muon is for layers 1 to 10, but they are frozen: leave it away (Adam)")
    if options.new_characters == "copy" and (not options.init or (options.reinitialize and LAYERS not in frozen)):
        raise UserError("--new_characters=copy carries output weights of --init over, but here they start afresh")
    if options.cache_activations:
        _check_cacheable(options, frozen)
    elif options.activation_dtype != TrainOptions.activation_dtype:
        raise UserError("--activation_dtype is the precision of --cache_activations: give both or none")
    if options.keep_old_language:
        parse_share(options.keep_old_language)
        if options.data.sorted_first_epoch:
            raise UserError("--data.sorted_first_epoch orders one language's data: not with --keep_old_language")
    if not options.data.train:
        raise UserError("no training data: --data.train=<manifest.jsonl or prepared folder>")
    traced = traced_updates(options.profile)
    if traced and traced[-1] > options.steps:
        raise UserError(f"--profile={options.profile} traces up to update {traced[-1]}, but --steps={options.steps}")


def _check_cacheable(options: TrainOptions, frozen: frozenset[int]) -> None:
    if not freezing.frozen_prefix(frozen):
        raise UserError(
            f"--cache_activations stores what the lowest layers give, but --frozen_layers={options.frozen_layers} "
            "freezes no layer from the first up: freeze some, or leave --cache_activations away"
        )
    if options.augment.on:
        raise UserError(
            "--cache_activations and --augment contradict each other: augmentation changes what the frozen layers see "
            "at every step; leave one of the two away"
        )
    if options.unfreeze_after:
        raise UserError(
            "--cache_activations and --unfreeze_after contradict each other: what is stored holds while the layers "
            "are frozen; leave one of the two away"
        )
    if options.model.dropout:
        raise UserError(
            "--cache_activations and --model.dropout contradict each other: dropout changes what the frozen layers "
            "give at every step; leave one of the two away"
        )
