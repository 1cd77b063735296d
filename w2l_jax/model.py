"""The eleven-layer Wav2Letter network of the paper (§3, Figure 1) as pure functions over a parameter tree.

`params = init(rng, config)`; `logits_BxSxV = apply(params, features_BxTxM, frames_B, config)`. The layers are one
table, and `apply` runs any range of them: that is all freezing, caching and introspection need.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from w2l_jax.arguments import check_array, check_range
from w2l_jax.convolution import convolve, unfolded
from w2l_jax.errors import UserError
from w2l_jax.features import STRIDE, output_frames

LAYERS = 11
WIDE = 9  # the lowest layer of `top_width` channels

Params = dict[str, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size and variants of the network; the defaults are the paper's."""

    width: int = 250
    """Channels of layers 1 to 8."""
    top_width: int = 2000
    """Channels of layers 9 and 10."""
    activation: Literal["relu", "elu"] = "relu"
    """Non-linearity of layers 1 to 10."""
    initializer: Literal["xavier_uniform", "he_uniform"] = "xavier_uniform"
    """Fresh kernels. Xavier (the paper's) halves the variance at every ReLU layer, He keeps it."""
    dropout: float = 0.0
    """Share of activations dropped before each of layers 1 to 8 in training (the authors' option; 0 is off)."""

    def __post_init__(self):
        if self.width < 1 or self.top_width < 1:
            raise UserError("model.width and model.top_width must be at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout must be in [0, 1), not {self.dropout}")


class Layer(NamedTuple):
    """One convolution over time: kernel and stride in frames, channels in and out."""

    name: str
    kernel: int
    stride: int
    channels_in: int
    channels_out: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return (self.kernel * self.channels_in + 1) * self.channels_out


def layer_name(number: int) -> str:
    """The key of layer `number` (from 1) in the parameter tree."""
    return f"layer_{number:02d}"


def layers(config: ModelConfig, outputs: int, mels: int = 128) -> tuple[Layer, ...]:
    """The layer table for `outputs` labels (blank included) on `mels` input channels."""
    w, top = config.width, config.top_width
    shapes = [(48, STRIDE, mels, w)] + [(7, 1, w, w)] * 7 + [(32, 1, w, top), (1, 1, top, top), (1, 1, top, outputs)]
    return tuple(Layer(layer_name(i), *shape) for i, shape in enumerate(shapes, start=1))


def misfit(
    params: Any, config: ModelConfig, outputs: int, mels: int, others: Any, first: int = 1, last: int = LAYERS
) -> str:
    """The first difference between a parameter tree's shapes and the layer table's, for a message; "" if they agree.

    `others` are arrays, or their shapes, that the tree holds besides the layers.
    """
    expected = {
        layer.name: {"kernel": (layer.kernel, layer.channels_in, layer.channels_out), "bias": (layer.channels_out,)}
        for layer in layers(config, outputs, mels)[first - 1 : last]
    }
    expected |= jax.tree.map(lambda leaf: tuple(leaf.shape), others)
    actual = jax.tree.map(lambda leaf: tuple(leaf.shape), params)
    for name in [*expected, *actual]:
        if actual.get(name) != expected.get(name):
            return f"{name} is {actual.get(name)}, not {expected.get(name)}"
    return ""


def receptive_field(config: ModelConfig = ModelConfig()) -> tuple[int, int]:
    """Input frames that output frame s sees before and after input frame 2·s; 194 in all, with that frame."""
    before = after = 0
    for layer in reversed(layers(config, outputs=2)):
        left, right = _padding(layer)
        before, after = before * layer.stride + left, after * layer.stride + right
    return before, after


def _padding(layer: Layer) -> tuple[int, int]:
    """Frames of SAME padding on the left, and frames the kernel sees on the right.

    With stride 2 and kernel 48, SAME pads 23 on the left for odd and even lengths alike (46 or 47 in all), so padding
    the batch does not move the grid.
    """
    left = (layer.kernel - layer.stride) // 2
    return left, layer.kernel - 1 - left


class _Wav2Letter(nn.Module):
    table: tuple[Layer, ...]
    config: ModelConfig
    dtype: Any = jnp.float32
    precision: Any = None
    unfold: bool = False

    @nn.compact
    def __call__(self, x_BxTxC, frames_B, first: int = 1, last: int = LAYERS, dropout_rng: Any = None):
        kernel_init = getattr(nn.initializers, self.config.initializer)()
        activation = getattr(nn, self.config.activation)
        # Between layers frames_B counts output frames: only layer 1 has a stride.
        x_BxTxC = _masked(x_BxTxC, frames_B)
        for number, layer in enumerate(self.table[first - 1 : last], start=first):
            if number < WIDE and dropout_rng is not None:
                # One key per layer number: two calls on two ranges of layers drop what one call would.
                rng = jax.random.fold_in(dropout_rng, number)
                x_BxTxC = nn.Dropout(self.config.dropout, deterministic=False)(x_BxTxC, rng=rng)
            x_BxTxC = nn.Conv(
                layer.channels_out,
                (layer.kernel,),
                (layer.stride,),
                padding="SAME",
                dtype=self.dtype,
                precision=self.precision,
                conv_general_dilated=unfolded if self.unfold and number == WIDE else convolve,
                kernel_init=kernel_init,
                name=layer.name,
            )(x_BxTxC)
            if layer.stride > 1:
                frames_B = output_frames(frames_B)
            if number < LAYERS:
                x_BxTxC = activation(x_BxTxC)
            x_BxTxC = _masked(x_BxTxC, frames_B)
        return x_BxTxC


def _masked(x_BxTxC, frames_B):
    """Zero beyond each utterance's end, as SAME padding would be without a batch."""
    inside_BxT = jnp.arange(x_BxTxC.shape[1]) < frames_B[:, None]
    return jnp.where(inside_BxT[..., None], x_BxTxC, 0)


def init(rng: jax.Array, config: ModelConfig, outputs: int, mels: int = 128) -> Params:
    """Fresh float32 parameters `{layer_01: {kernel [K, C_in, C_out], bias [C_out]}, …}` (biases zero).

    `outputs` counts labels and blank: 29 give the paper's 24,662,529 parameters, 33 its 24,670,533.
    """
    for name, value, least in (("outputs", outputs, 2), ("mels", mels, 1)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    module = _Wav2Letter(layers(config, outputs, mels), config)
    return module.init(rng, jnp.zeros((1, 2, mels)), jnp.array([2]))["params"]


def apply(
    params: Params,
    features_BxTxM: jax.Array,
    frames_B: jax.Array,
    config: ModelConfig,
    *,
    first: int = 1,
    last: int = LAYERS,
    dtype: Any = jnp.float32,
    precision: Any = None,
    dropout_rng: jax.Array | None = None,
    unfold: bool = False,
) -> jax.Array:
    """Logits [B, S, V] in float32, S = ceil(T / 2); or the activations of a range of layers.

    Layers `first` … `last` (from 1, inclusive) run; with `first` > 1 the input is the output of layer `first` − 1,
    [B, S, C], and `frames_B` still counts *input* frames T. Every layer masks the frames beyond an utterance's end, so
    padding and other utterances of the batch never change a result; logits there are 0. Arithmetic is in `dtype`.
    `dropout_rng` enables the configured dropout. With `unfold` layer 9 is one matrix product over its windows of 32
    frames. Raises ValueError for arrays of a wrong shape and for `frames_B` out of range.
    """
    if not 1 <= first <= last <= LAYERS:
        raise ValueError(f"layers {first}…{last} are not a range within 1…{LAYERS}")
    names = [layer_name(number) for number in range(first, last + 1)]
    if missing := [name for name in names if name not in params]:
        raise ValueError(f"params must hold {', '.join(names)}, but lacks {', '.join(missing)}")
    used = {name: params[name] for name in names}
    width = params[names[-1]]["kernel"].shape[-1] if last == LAYERS else 1
    mels = params[names[0]]["kernel"].shape[1] if first == 1 else 1
    table = layers(config, width, mels)
    if wrong := misfit(used, config, width, mels, {}, first, last):
        raise ValueError(f"params do not fit config: {wrong}")
    check_array("features_BxTxM", features_BxTxM, jnp.number, M=table[first - 1].channels_in)
    rows, frames, _ = features_BxTxM.shape
    check_array("frames_B", frames_B, jnp.integer, B=rows)
    longest = frames if first == 1 else STRIDE * frames
    check_range("frames_B", frames_B, 0, longest, "features_BxTxM has no more input frames")
    if not frames:
        return jnp.zeros((rows, 0, table[last - 1].channels_out), jnp.float32 if last == LAYERS else dtype)
    module = _Wav2Letter(table, config, dtype, precision, unfold)
    frames_B = frames_B if first == 1 else output_frames(frames_B)
    out = module.apply(
        {"params": used},
        features_BxTxM.astype(dtype),
        frames_B,
        first,
        last,
        dropout_rng if config.dropout else None,
    )
    return out.astype(jnp.float32) if last == LAYERS else out
