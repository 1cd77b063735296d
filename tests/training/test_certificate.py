"""The certificate at full width: 64 utterances of 12 seconds. Nothing runs; only the compiler's figures are read."""

import functools

import pytest

from tests.training_options import train_options
from w2l_jax import model
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.dataset.batches import Bucket
from w2l_jax.model import ModelConfig
from w2l_jax.training.certificate import compile_step, predicted_flops
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import StepConfig

ROWS, FRAMES = 64, 1500
TABLE = model.layers(ModelConfig(), 33)
GIB = 2**30
# Every k takes some seconds to compile: the most informative ones always run, the others with `make test-slow`.
EVERY_K = [pytest.param(k, marks=[] if k in (0, 8, 9, 10) else pytest.mark.slow) for k in range(11)]


@functools.cache
def full_width(k, clip_norm=0.0, weight_decay=0.0, **config):
    config = StepConfig(ModelConfig(), frozenset(range(1, k + 1)), **config)
    optimizer = make_optimizer(train_options(clip_norm=clip_norm, weight_decay=weight_decay), config.frozen)
    return compile_step(optimizer, config, ROWS, Bucket(FRAMES, 150), preset("german"))[1]


@pytest.mark.parametrize("k", EVERY_K)
def test_flops_fall_with_k_as_the_layer_table_predicts(k):
    once = [layer.kernel * layer.channels_in * layer.channels_out * 2 * ROWS * FRAMES // 2 for layer in TABLE]
    expected = sum(once) + sum(once[k:]) + sum(once[k + 1 :])  # forward; weight gradients; input gradients
    assert predicted_flops(TABLE, ROWS, FRAMES, frozenset(range(1, k + 1))) == expected
    certificate = full_width(k)
    assert certificate.flops == pytest.approx(expected, rel=0.03)
    assert certificate.flops_share_of_k0 == pytest.approx(certificate.flops / full_width(0).flops, rel=0.01)


def test_shares_of_the_paper_network():
    assert [round(full_width(k).flops_share_of_k0, 2) for k in (0, 8, 9, 10)] == [1.0, 0.67, 0.4, 0.34]


@pytest.mark.parametrize("k", EVERY_K)
def test_the_state_is_donated_and_frozen_layers_carry_no_moments(k):
    certificate = full_width(k)
    trained = sum(layer.parameters for layer in TABLE[k:])
    assert certificate.trained_parameters == trained
    assert certificate.frozen_parameters == 24_670_533 - trained
    assert certificate.optimizer_bytes == pytest.approx(8 * trained, abs=16)
    # Everything except the batch and the frozen layers is updated in place; frozen layers pass through.
    assert certificate.reused_bytes >= certificate.optimizer_bytes + 4 * trained


@pytest.mark.parametrize(("k", "limit"), [(0, 2.9), (8, 2.15), (10, 1.35)])
def test_temporaries_stay_small(k, limit):
    assert full_width(k).temporary_bytes < limit * GIB


def test_clipping_and_weight_decay_add_no_frozen_backward_pass():
    plain, both = full_width(8), full_width(8, clip_norm=1.0, weight_decay=0.01)
    assert both.flops == pytest.approx(plain.flops, rel=1e-3)
    assert both.optimizer_bytes == pytest.approx(plain.optimizer_bytes, abs=16)
    assert both.reused_bytes >= both.optimizer_bytes + 4 * both.trained_parameters


def test_remat_halves_the_temporaries_for_a_third_more_flops():
    plain, remat = full_width(0), full_width(0, remat=True)
    assert remat.temporary_bytes < 0.65 * plain.temporary_bytes
    assert 1.2 * plain.flops < remat.flops < 1.35 * plain.flops


@pytest.mark.slow
def test_microbatches_divide_the_temporaries_for_the_same_flops():
    plain, cut = full_width(0), full_width(0, max_microbatch_frames=8 * FRAMES)
    assert cut.temporary_bytes < plain.temporary_bytes / 4
    assert cut.flops == pytest.approx(plain.flops, rel=0.01)


@pytest.mark.parametrize(
    ("remat", "limit"),
    [(False, 4 * 48), pytest.param(True, 0, id="remat"), pytest.param(True, 4 * 48, id="remat, cut")],
)
def test_flops_inside_loops_are_added(remat, limit):
    """Apart from convolutions little is left: within 3 % of the layer table, with and without loops."""
    config = ModelConfig(width=48, top_width=96)
    table, step = model.layers(config, 7, 16), StepConfig(config, remat=remat, max_microbatch_frames=limit)
    optimizer = make_optimizer(TrainOptions(), step.frozen)
    certificate = compile_step(optimizer, step, 8, Bucket(800, 4), Alphabet("abcdef"), 16)[1]
    expected = predicted_flops(table, 8, 800, frozenset(), remat=remat)
    assert certificate.flops == pytest.approx(expected, rel=0.03)
