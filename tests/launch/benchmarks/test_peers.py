"""PyTorch with our weights computes the same as ours, so their times are comparable."""

import jax
import numpy as np
import optax
import pytest

from w2l_jax import model
from w2l_jax.model import ModelConfig
from w2l_jax.training.step import StepConfig, init_state, make_step

torch = pytest.importorskip("torch")
peers = pytest.importorskip("benchmarks.bench_peers")

OUTPUTS, MELS = 9, 12


def close(ours, theirs):
    """Within 1e-4 of the largest number."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.fixture(scope="module")
def batch():
    return peers.random_batch(4, 121, 20, OUTPUTS, MELS)


def tensors(batch):
    return jax.tree.map(torch.from_numpy, batch)


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("frames", [120, 121])
def test_the_same_logits(activation, frames):
    config = ModelConfig(width=14, top_width=18, activation=activation, initializer="he_uniform")
    params = model.init(jax.random.key(1), config, OUTPUTS, MELS)
    batch = peers.random_batch(4, frames, 20, OUTPUTS, MELS)
    ours = model.apply(params, batch.features_BxTxM, batch.frames_B, config)
    with torch.no_grad():
        theirs = peers.Network(params, config)(tensors(batch).features_BxTxM, tensors(batch).frames_B).numpy()
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 0.1
    close(ours, theirs)


@pytest.mark.parametrize("k", [0, 8, 10])
def test_the_same_first_loss_and_gradient(batch, k):
    config = ModelConfig(width=14, top_width=18, initializer="he_uniform")
    params = jax.device_get(model.init(jax.random.key(1), config, OUTPUTS, MELS))

    network = peers.Network(params, config)
    trained = network.freeze(k)
    loss = peers.loss(network(tensors(batch).features_BxTxM, tensors(batch).frames_B), tensors(batch))
    loss.backward()
    assert len(trained) == 2 * (model.LAYERS - k)

    frozen, sgd = frozenset(range(1, k + 1)), optax.sgd(1.0)  # its update is the gradient itself
    after, metrics = make_step(sgd, StepConfig(config, frozen))(init_state(params, sgd, frozen), batch)
    assert int(metrics["infeasible"]) == 0
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained])
    assert float(metrics["gradient_norm"]) == pytest.approx(norm.item(), rel=1e-4)
    for number, conv in enumerate(network.layers, start=1):
        name = model.layer_name(number)
        if number <= k:
            assert conv.weight.grad is None and conv.bias.grad is None
            assert (after.params[name]["kernel"] == params[name]["kernel"]).all()
        else:
            close(params[name]["kernel"] - after.params[name]["kernel"], conv.weight.grad.permute(2, 1, 0).numpy())
            close(params[name]["bias"] - after.params[name]["bias"], conv.bias.grad.numpy())


def test_adam_updates_agree(batch):
    config = ModelConfig(width=14, top_width=18, initializer="he_uniform")
    params = model.init(jax.random.key(1), config, OUTPUTS, MELS)
    ours, theirs = (make(params, config, 6, batch) for make in (peers.jax_update, peers.torch_update))
    losses = np.array([[ours(), theirs()] for _ in range(10)])
    assert losses[-1, 0] < losses[0, 0]
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-3)
