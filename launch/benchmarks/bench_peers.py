"""The training step compared with the same step in idiomatic PyTorch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import BenchmarkOptions, Report, Table, interleaved
from w2l_jax import freezing, model
from w2l_jax.dataset.batches import Batch
from w2l_jax.errors import UserError
from w2l_jax.features import FRAME_SECONDS
from w2l_jax.model import ModelConfig, Params
from w2l_jax.training.certificate import predicted_flops
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import StepConfig, init_state, make_step

try:
    import torch
    from torch.nn import functional
except ImportError:
    raise UserError("--what=peers needs PyTorch: pip install 'w2l_jax[peers]' (its CPU build is enough)") from None

_FROZEN = (0, 6, 8, 9, 10)
_OUTPUTS = 33  # German characters and the blank
_MELS = 128
_SIDE = 3072
Update = Callable[[], float]


class Network(torch.nn.Module):
    """The eleven layers of `params` in PyTorch: features [B, T, M] and frames [B] → logits [B, S, V]."""

    def __init__(self, params: Params, config: ModelConfig):
        super().__init__()
        outputs, mels = params[model.layer_name(model.LAYERS)]["bias"].shape[0], params["layer_01"]["kernel"].shape[1]
        self.layers = torch.nn.ModuleList()
        for layer in model.layers(config, outputs, mels):
            # PyTorch has no SAME with a stride: layer 1's input is padded here.
            padding = "same" if layer.stride == 1 else "valid"
            conv = torch.nn.Conv1d(layer.channels_in, layer.channels_out, layer.kernel, layer.stride, padding)
            with torch.no_grad():
                conv.weight.copy_(torch.from_numpy(np.array(params[layer.name]["kernel"]).transpose(2, 1, 0).copy()))
                conv.bias.copy_(torch.from_numpy(np.array(params[layer.name]["bias"])))
            self.layers.append(conv)
        self.activation = getattr(functional, config.activation)

    def forward(self, features_BxTxM: torch.Tensor, frames_B: torch.Tensor) -> torch.Tensor:
        """Logits, zero beyond each utterance's end, which is masked after every layer."""
        x_BxCxT = features_BxTxM.float().transpose(1, 2)
        x_BxCxT = functional.pad(_masked(x_BxCxT, frames_B), (23, 24))
        frames_B = model.output_frames(frames_B)
        for conv in self.layers[:-1]:
            x_BxCxT = _masked(self.activation(conv(x_BxCxT)), frames_B)
        return _masked(self.layers[-1](x_BxCxT), frames_B).transpose(1, 2)

    def freeze(self, k: int) -> list[torch.nn.Parameter]:
        """Freezes the lowest `k` layers and returns the parameters to train."""
        for conv in self.layers[:k]:
            conv.requires_grad_(False)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def _masked(x_BxCxT: torch.Tensor, frames_B: torch.Tensor) -> torch.Tensor:
    outside_BxT = torch.arange(x_BxCxT.shape[2], device=x_BxCxT.device) >= frames_B[:, None]
    return x_BxCxT.masked_fill(outside_BxT[:, None], 0.0)


def loss(logits_BxSxV: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean CTC loss of a batch of tensors whose targets are all feasible, nats."""
    log_probs_SxBxV = logits_BxSxV.log_softmax(-1).transpose(0, 1)
    frames_B = model.output_frames(batch.frames_B)
    target = (batch.labels_BxL, frames_B, batch.label_lengths_B)
    return functional.ctc_loss(log_probs_SxBxV, *target, reduction="sum", zero_infinity=True) / len(frames_B)


def random_batch(rows: int, frames: int, labels: int, outputs: int = _OUTPUTS, mels: int = _MELS) -> Batch:
    """Noise as features, of half the length up to the whole, with feasible random transcripts (NumPy)."""
    rng = np.random.default_rng(0)
    frames_B = rng.integers(max(frames // 2, 1), frames + 1, rows).astype(np.int32)
    frames_B[0] = frames
    lengths_B = np.minimum(rng.integers(labels // 2, labels + 1, rows), model.output_frames(frames_B) // 2)
    return Batch(
        rng.standard_normal((rows, frames, mels), np.float32).astype(np.float16),
        frames_B,
        rng.integers(1, outputs, (rows, labels)).astype(np.int32),
        lengths_B.astype(np.int32),
    )


def torch_update(params: Params, config: ModelConfig, k: int, batch: Batch, compiled: bool = False) -> Update:
    """One update of Adam above `k` frozen layers in PyTorch, as a function that returns the loss before it."""
    update = torch_step(params, config, k, batch, compiled)
    return lambda: update().item()


def torch_step(
    params: Params, config: ModelConfig, k: int, batch: Batch, compiled: bool = False, bfloat16: bool = False
) -> Callable[[], torch.Tensor]:
    """As `torch_update`, without waiting for the loss; `bfloat16` by autocast, else TF32 where a GPU has it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = torch_device()
    network = Network(params, config).to(device)
    options = TrainOptions()
    betas = (options.optimizer.beta1, options.optimizer.beta2)
    optimizer = torch.optim.Adam(
        network.freeze(k), lr=options.learning_rate, betas=betas, eps=options.optimizer.epsilon
    )
    tensors = jax.tree.map(lambda array: torch.from_numpy(array).to(device), batch)
    forward = torch.compile(network) if compiled else network

    def update() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits_BxSxV = forward(tensors.features_BxTxM, tensors.frames_B)
        value = loss(logits_BxSxV.float(), tensors)
        value.backward()
        optimizer.step()
        return value.detach()

    return update


def ctc_gradient(logits_BxSxV: Any, frames_B: Any, labels_BxL: Any, lengths_B: Any) -> Callable[[], torch.Tensor]:
    """PyTorch's CTC with its gradient by the logits, on JAX's device, as a function that does not wait."""
    device = torch_device()
    scores = torch.tensor(np.asarray(logits_BxSxV), device=device, requires_grad=True)
    target = [torch.tensor(np.asarray(x), dtype=torch.long, device=device) for x in (labels_BxL, frames_B, lengths_B)]

    def gradient() -> torch.Tensor:
        log_probs_SxBxV = torch.log_softmax(scores, dim=-1).transpose(0, 1)
        total = functional.ctc_loss(log_probs_SxBxV, *target, reduction="sum")
        return torch.autograd.grad(total, scores)[0]

    return gradient


def wait(_: Any = None) -> None:
    """Waits for PyTorch's work on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_device() -> torch.device:
    """JAX's device in PyTorch; raises UserError if PyTorch lacks it."""
    if jax.default_backend() == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--what=peers: this PyTorch has no GPU to compare with; JAX_PLATFORMS=cpu compares on the CPU")
    return torch.device("cuda")


def jax_update(params: Params, config: ModelConfig, k: int, batch: Batch) -> Update:
    """One update as training makes it, as a function that returns the loss before it."""
    frozen = freezing.parse_layers(k)
    optimizer = make_optimizer(TrainOptions(), frozen)
    state = init_state(jax.tree.map(jnp.array, params), optimizer, frozen)  # the step donates its state
    step, placed = make_step(optimizer, StepConfig(config, frozen)), jax.device_put(batch)

    def update() -> float:
        nonlocal state
        state, metrics = step(state, placed)
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    return update


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """Seconds of an update in w2l_jax, PyTorch and torch.compile, for the paper's numbers of frozen layers.

    A large matrix product in both, measured in the same turns, gives the limit (the better of the two rates).
    """
    config, frames = options.model, round(options.seconds / FRAME_SECONDS)
    batch = random_batch(options.batch_size, frames, options.labels)
    params = model.init(jax.random.key(0), config, _OUTPUTS, _MELS)
    table = model.layers(config, _OUTPUTS, _MELS)
    rows = []
    for k in _FROZEN:
        report(f"peers: {k} frozen layers, {options.repetitions} + 1 updates of each")
        updates = {
            "w2l_jax": jax_update(params, config, k, batch),
            "PyTorch": torch_update(params, config, k, batch),
            "torch.compile": torch_update(params, config, k, batch, compiled=True),
        }
        firsts: dict[str, float] = {}
        calls = {name: functools.partial(_call, name, update, firsts) for name, update in updates.items()}
        ours, plain, compiled, *limits = interleaved(calls | _products(), options.repetitions).values()
        flops = predicted_flops(table, len(batch.frames_B), frames, freezing.parse_layers(k))
        limit = 2 * _SIDE**3 / min(limits)
        shares = (f"{flops / seconds / limit:.0%}" for seconds in (ours, plain))
        apart = (max(firsts.values()) - min(firsts.values())) / firsts["w2l_jax"]
        rows.append((k, ours, plain, compiled, plain / ours, compiled / ours, *shares, limit / 1e9, apart))
    columns = ("k", "w2l_jax s", "PyTorch s", "torch.compile s", "PyTorch ÷ w2l_jax", "torch.compile ÷ w2l_jax")
    columns += ("w2l_jax's share", "PyTorch's share", "of GFLOP/s", "difference of first losses")
    title = f"An update of {options.batch_size} × {frames} frames, {config.width}/{config.top_width} channels, float32"
    note = f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads; Adam, CTC, the lowest k layers frozen."
    note += f" Shares: of the rate of a {_SIDE} × {_SIDE} matrix product in the same turns, the better of the two."
    return [Table(title, columns, tuple(rows), note)]


def _products() -> dict[str, Callable[[], Any]]:
    """A large matrix product, waited for, in JAX and in PyTorch."""
    ours = jnp.ones((_SIDE, _SIDE), jnp.float32)
    theirs = torch.ones((_SIDE, _SIDE), device=torch_device())
    product = jax.jit(jnp.dot)
    return {"JAX": lambda: product(ours, ours).block_until_ready(), "torch": lambda: (theirs @ theirs)[0, 0].item()}


def _call(name: str, update: Update, firsts: dict[str, float]) -> None:
    firsts.setdefault(name, update())
