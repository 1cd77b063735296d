import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from w2l_jax import model
from w2l_jax.alphabet import preset
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig
from w2l_jax.network import load, save
from w2l_jax.run import to_toml
from w2l_jax.training.options import TrainOptions

CONFIG = ModelConfig(width=4, top_width=5, activation="elu")
FEATURES = FeatureConfig(mels=16, order="db_of_mel")
METADATA = {
    "run.json": '{"format": 1}',
    "config.toml": to_toml(TrainOptions(model=CONFIG, features=FEATURES)),
    "alphabet.json": preset("de").to_json(),
    "step": "7",
    "README.md": "Größe: klein. Licence: MIT\n",
}


@pytest.fixture(scope="module")
def params():
    return jax.device_get(model.init(jax.random.key(0), CONFIG, 33, 16))


@pytest.fixture
def path(params, tmp_path):
    save(tmp_path / "a.safetensors", params, METADATA)
    return tmp_path / "a.safetensors"


def parse(path):
    """The format by its specification: u64 length, JSON header, bytes. Returns metadata and {name: (dtype, bytes)}."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata, data = header.pop("__metadata__"), content[8 + length :]
    return metadata, {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for name, e in header.items()}


def to_bfloat16(array):
    """Round to nearest, ties to even, on the bits of float32."""
    bits = np.ascontiguousarray(array).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def leaves(params):
    return {f"{layer}.{leaf}": params[layer][leaf] for layer in params for leaf in params[layer]}


def test_what_stands_in_the_file(params, path):
    metadata, arrays = parse(path)
    assert metadata == METADATA
    assert len(arrays) == 22 and arrays.keys() == leaves(params).keys()
    for name, array in leaves(params).items():
        assert arrays[name] == ("F32", list(array.shape), array.tobytes())


def test_float32_comes_back_bit_for_bit(params, path):
    network = load(path)
    assert jax.tree.structure(network.params) == jax.tree.structure(params)
    for ours, theirs in zip(jax.tree.leaves(network.params), jax.tree.leaves(params), strict=True):
        assert ours.dtype == np.float32 and ours.tobytes() == theirs.tobytes()
    assert (network.model, network.features, network.alphabet) == (CONFIG, FEATURES, preset("de"))
    assert network.step == 7 and network.metadata == METADATA


def test_bfloat16_comes_back_rounded(params, tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    save(path, jax.tree.map(lambda leaf: np.asarray(leaf, jnp.bfloat16), params), METADATA)
    _, arrays = parse(path)
    network = leaves(load(path).params)
    for name, array in leaves(params).items():
        rounded = to_bfloat16(array)
        assert arrays[name] == ("BF16", list(array.shape), rounded.tobytes())
        np.testing.assert_array_equal(network[name].view(np.uint32), rounded.astype(np.uint32) << 16)


def test_arrays_of_any_layout_are_written_in_order(params, tmp_path):
    strided = jax.tree.map(np.asfortranarray, params)
    assert not strided["layer_02"]["kernel"].flags.c_contiguous
    save(tmp_path / "a.safetensors", strided, METADATA)
    assert jax.tree.all(jax.tree.map(np.array_equal, load(tmp_path / "a.safetensors").params, params))


@pytest.mark.parametrize("kept", [0, 7, 30, 3000, -1])
def test_a_truncated_file(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.safetensors: damaged or no \.safetensors file .*again"):
        load(path)


def test_a_missing_and_a_foreign_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.safetensors")
    for metadata in (None, {"format": "pt"}):
        save_file({"layer_01.kernel": np.zeros(3)}, tmp_path / "b.safetensors", metadata)
        with pytest.raises(UserError, match="not a network of w2l_jax"):
            load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.toml": None}, "metadata lack 'config.toml'"),
        ({"alphabet.json": None}, "metadata lack 'alphabet.json'"),
        ({"step": None}, "metadata lack 'step'"),
        ({"config.toml": "[model]\nwidth = 4\n"}, "metadata lack 'features'"),
        ({"config.toml": "[model"}, "metadata are damaged"),
        ({"config.toml": '[model]\nwidth = "4"\n[features]\n'}, "metadata are damaged"),
        ({"config.toml": "[model]\ndepth = 4\n[features]\n"}, r"metadata are damaged .*depth"),
        ({"alphabet.json": "{}"}, r"a\.safetensors: its metadata are damaged .*alphabet"),
        ({"step": "many"}, "metadata are damaged"),
        ({"run.json": "{"}, r"a\.safetensors: run.json: damaged"),
        ({"run.json": '{"format": 2}'}, "format 2, but this version reads 1; upgrade"),
        ({"alphabet.json": preset("en").to_json()}, r"layer_11 is \{.*33.*\}, not \{.*29.*\}"),
    ],
)
def test_metadata_that_are_missing_damaged_or_of_another_network(params, tmp_path, change, message):
    metadata = {name: text for name, text in {**METADATA, **change}.items() if text is not None}
    save(tmp_path / "a.safetensors", params, metadata)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a.safetensors")


def test_arrays_that_are_missing_too_many_or_of_other_shapes(params, tmp_path):
    wrong = [
        ({name: leaf for name, leaf in params.items() if name != "layer_03"}, "layer_03 is None"),
        ({**params, "layer_12": params["layer_11"]}, "layer_12 is .*, not None"),
        ({**params, "layer_05": {"kernel": params["layer_05"]["kernel"]}}, "layer_05 is .*bias"),
        ({**params, "layer_05": jax.tree.map(np.transpose, params["layer_05"])}, r"layer_05 is .*\(4, 4, 7\)"),
    ]
    for i, (tree, message) in enumerate(wrong):
        save(tmp_path / f"{i}.safetensors", tree, METADATA)
        with pytest.raises(UserError, match=message):
            load(tmp_path / f"{i}.safetensors")


def test_nothing_is_overwritten_and_nothing_half_written(params, path):
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        save(path, params, METADATA)
    assert path.read_bytes() == before
    full = path.with_name("full.safetensors")
    full.with_name(".full.safetensors.tmp").symlink_to("/dev/full")  # refuses every write
    with pytest.raises(OSError, match="No space left"):
        save(full, params, METADATA)
    assert not full.exists()
