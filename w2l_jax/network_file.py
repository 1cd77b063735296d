"""A trained network as one `.safetensors` file: weights, and metadata with all their use needs and a digest."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from w2l_jax.errors import UserError
from w2l_jax.files import digest, text_digest, write_atomically
from w2l_jax.model import Params

SUFFIX = ".safetensors"
FORMAT = 3
_LONGEST_HEADER = 2**24  # bytes; the library would accept 100 MB of JSON
_LARGEST = 2**31  # bytes, twenty times the paper's network; a sparse file may claim more


def write(
    path: Path, params: Params, about: dict[str, Any], card: str, dtype: Literal["bfloat16", "float32"] = "bfloat16"
) -> None:
    """Writes parameters, their metadata `about` (JSON values) and a card, whole or not at all.

    Raises UserError if `path` exists or does not end in `.safetensors`, and for weights that are not finite.
    """
    import ml_dtypes
    import safetensors.numpy

    if path.suffix != SUFFIX:
        raise UserError(f"path={str(path)!r}: a recogniser is saved as one {SUFFIX} file")
    if path.exists():
        raise UserError(f"{path}: exists; give another name, or remove it")
    dtypes = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
    if dtype not in dtypes:
        raise UserError(f"dtype={dtype}: choose from {', '.join(dtypes)}")
    arrays = {
        # The library writes an array's memory and ignores its strides.
        f"{layer}.{leaf}": np.ascontiguousarray(array, dtypes[dtype])
        for layer, leaves in params.items()
        for leaf, array in leaves.items()
    }
    if wrong := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise UserError(f"{wrong[0]} holds values that are not finite, so the network is useless")
    about = {"format": FORMAT, **about}
    about["digest"] = _seal(arrays, about, card)
    metadata = {"w2l_jax": json.dumps(about, ensure_ascii=False), "card": card}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.numpy.save(arrays, metadata))


def read(path: Path) -> tuple[Params, dict[str, Any], str]:
    """Returns parameters (float32), their metadata, and the card.

    Raises UserError for a damaged, foreign or changed file, another format, and weights that are not finite. Never
    allocates memory on the word of a header.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as raw:
            header = int.from_bytes(raw.read(8), "little")
        if header > _LONGEST_HEADER or path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: not a network of w2l_jax (its header or size is impossible)")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "w2l_jax" not in metadata:
                raise UserError(f"{path}: not a network of w2l_jax (its metadata do not say so)")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged, or not a {SUFFIX} file ({error}); copy or save it again") from None
    try:
        about = json.loads(metadata["w2l_jax"])
        written, expected = about["format"], about.pop("digest", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: its metadata are damaged; save it again") from None
    if written != FORMAT:
        older = isinstance(written, int) and written < FORMAT
        remedy = "it is of an older version: save it again from its run" if older else "upgrade w2l_jax"
        raise UserError(f"{path}: format {written}, but this version reads {FORMAT}; {remedy}")
    card = metadata.get("card", "")
    if _seal(arrays, about, card) != expected:
        raise UserError(f"{path}: its content was changed or damaged (its digest differs); copy it again")
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        layer, _, leaf = name.partition(".")
        params.setdefault(layer, {})[leaf] = np.asarray(array, np.float32)
        if not np.isfinite(params[layer][leaf]).all():
            raise UserError(f"{path}: {name} holds values that are not finite")
    return params, about, card


def _seal(arrays: dict[str, np.ndarray], about: dict[str, Any], card: str) -> str:
    return text_digest(json.dumps([digest(arrays), about, card], sort_keys=True))
