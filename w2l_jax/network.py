"""A trained network in one .safetensors file, which any program with that library opens and `load` reads.

The arrays are named as in the parameter tree (`layer_01.kernel`); the metadata are `step` and the text files of a run
folder by name: alphabet.json, config.toml (network, features, language, how it was trained), README.md and others.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from w2l_jax import losses, model
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig, Params
from w2l_jax.run import check_format, write_atomically

SUFFIX = ".safetensors"


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network and what gives its inputs and outputs a meaning; `metadata` is all that the file says."""

    params: Params
    alphabet: Alphabet
    model: ModelConfig
    features: FeatureConfig
    step: int
    metadata: Mapping[str, str]


def load(path: str | Path) -> Network:
    """Reads what `launch/export.py --out=<path>` wrote; the parameters are float32 NumPy arrays, however stored.

    Raises UserError for a missing, truncated or foreign file and for arrays that are not those of its metadata.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; launch/export.py --out={path.with_suffix(SUFFIX)} writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "run.json" not in metadata:
                raise UserError(f"{path}: not a network of w2l_jax, whose files say so in their metadata (run.json)")
            check_format(metadata["run.json"], f"{path}: run.json")
            params = {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                layer, _, leaf = name.partition(".")
                params.setdefault(layer, {})[leaf] = np.asarray(file.get_tensor(name), np.float32)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or no {SUFFIX} file ({error}); copy or export it again") from None
    network = _described(path, params, metadata)
    own = losses.own_parameters(network.alphabet)
    if wrong := model.misfit(params, network.model, network.alphabet.size, network.features.mels, own):
        raise UserError(f"{path}: {wrong} as its metadata say; export it again")
    return network


def _described(path: Path, params: Params, metadata: Mapping[str, str]) -> Network:
    try:
        config = tomllib.loads(metadata["config.toml"])
        return Network(
            params,
            Alphabet.from_json(metadata["alphabet.json"]),
            ModelConfig(**config["model"]),
            FeatureConfig(**config["features"]),
            int(metadata["step"]),
            metadata,
        )
    except KeyError as error:
        raise UserError(f"{path}: its metadata lack {error}; export it again") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: its metadata are damaged ({error}); export it again") from None


def save(path: str | Path, params: Params, metadata: Mapping[str, str]) -> None:
    """Writes a file that `load` reads, whole or not at all; a file that exists is an error (UserError).

    Arrays are stored in the precision they have; `metadata` as the module says.
    """
    import safetensors.numpy

    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: exists already; give another name, or remove it")
    arrays = {
        # The library writes an array's memory as it lies, whatever its strides.
        f"{layer}.{leaf}": np.ascontiguousarray(array)
        for layer, leaves in params.items()
        for leaf, array in leaves.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.numpy.save(arrays, dict(metadata)))
