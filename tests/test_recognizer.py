"""A trained network as one value: the content of its file, what loads, and what is refused."""

import dataclasses
import json
import struct
import subprocess
import sys
import tracemalloc

import jax
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from tests.conftest import ROOT, launch
from tests.decoding.conftest import hand_lm, kenlm_tools  # noqa: F401 (fixtures)
from w2l_jax import audio, config, features, inference, model, network_file
from w2l_jax.alphabet import preset
from w2l_jax.decoding.decoder_config import DecoderConfig
from w2l_jax.decoding.greedy import greedy
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig
from w2l_jax.recognizer import INCLUDED, Recognizer, load
from w2l_jax.run import Run
from w2l_jax.training import create, train
from w2l_jax.training.options import TrainOptions

CONFIG = ModelConfig(width=4, top_width=5, activation="elu")
FEATURES = FeatureConfig(mels=16, order="db_of_mel")
CARD = "Größe: klein. Licence: MIT\n"


@pytest.fixture(scope="module")
def params():
    return jax.device_get(model.init(jax.random.key(0), CONFIG, 33, 16))


@pytest.fixture(scope="module")
def recognizer(params):
    return Recognizer(params, preset("de"), CONFIG, FEATURES, language="german", step=7, card=CARD)


@pytest.fixture
def path(recognizer, tmp_path):
    recognizer.save(tmp_path / "a.safetensors", "float32")
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


def rewrite(path, **changes):
    """Changes a file's metadata as somebody who knows the format could; None removes an entry."""
    metadata, _ = parse(path)
    arrays = leaves(load(path).params)
    about = {name: value for name, value in (json.loads(metadata["w2l_jax"]) | changes).items() if value is not None}
    if "digest" not in changes:
        del about["digest"]
        about["digest"] = network_file._seal(arrays, about, metadata["card"])
    metadata["w2l_jax"] = json.dumps(about)
    save_file(arrays, path, metadata)


def test_content_of_an_exported_file(params, path):
    metadata, arrays = parse(path)
    about = json.loads(metadata["w2l_jax"])
    assert metadata["card"] == CARD and about["language"] == "german" and about["step"] == 7
    assert about["alphabet"]["characters"] == preset("de").characters and about["model"] == dataclasses.asdict(CONFIG)
    assert len(arrays) == 22 and arrays.keys() == leaves(params).keys()
    for name, array in leaves(params).items():
        assert arrays[name] == ("F32", list(array.shape), array.tobytes())


def test_float32_round_trips_exactly(recognizer, path):
    again = load(path)
    assert dataclasses.replace(again, params=recognizer.params) == recognizer
    for ours, theirs in zip(jax.tree.leaves(again.params), jax.tree.leaves(recognizer.params), strict=True):
        assert ours.dtype == np.float32 and ours.tobytes() == theirs.tobytes()


def test_bfloat16_round_trips_rounded(recognizer, params, tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    recognizer.save(path)
    _, arrays = parse(path)
    again = leaves(load(path).params)
    for name, array in leaves(params).items():
        rounded = to_bfloat16(array)
        assert arrays[name] == ("BF16", list(array.shape), rounded.tobytes())
        np.testing.assert_array_equal(again[name].view(np.uint32), rounded.astype(np.uint32) << 16)


def test_arrays_of_any_layout_are_written_in_order(recognizer, tmp_path):
    strided = jax.tree.map(np.asfortranarray, recognizer.params)
    assert not strided["layer_02"]["kernel"].flags.c_contiguous
    dataclasses.replace(recognizer, params=strided).save(tmp_path / "a.safetensors", "float32")
    again = load(tmp_path / "a.safetensors").params
    assert jax.tree.all(jax.tree.map(np.array_equal, again, recognizer.params))


@pytest.mark.parametrize("kept", [0, 7, 30, 3000, -1])
def test_a_truncated_file(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.safetensors: damaged, or not a \.safetensors file .*again"):
        load(path)


def test_a_flipped_bit_anywhere(recognizer, path):
    """In the weights and in the metadata: alphabet, features and decoder determine the words, too."""
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    rng = np.random.default_rng(0)
    for place in [*rng.integers(8 + length, len(content), 40), *range(8, 8 + length)]:
        damaged = content.copy()
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged|changed or damaged|not a network|format"):
            load(path)


def test_sizes_claimed_by_an_untrusted_file_are_not_allocated(path):
    content = path.read_bytes()
    header = json.dumps(
        {"__metadata__": {"w2l_jax": "{}"}, "a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    )
    lies = {
        "a header of terabytes": struct.pack("<Q", 2**42) + content[8:],
        "metadata of 64 MB": struct.pack("<Q", 2**26) + b'{"__metadata__":{"w2l_jax":"' + bytes(2**26),
        "an array of terabytes": struct.pack("<Q", len(header)) + header.encode(),
    }
    for name, lie in lies.items():
        path.write_bytes(lie)
        tracemalloc.start()
        with pytest.raises(UserError, match=r"a\.safetensors: (damaged|not a network)"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6, name
        tracemalloc.stop()
    with path.open("r+b") as file:  # only a hole after the header, of the claimed length
        file.truncate(2**42 + 8 + len(header))
    with pytest.raises(UserError, match="not a network of w2l_jax"):
        load(path)


def test_a_missing_and_a_foreign_file(tmp_path):
    with pytest.raises(UserError, match=r"no such file, run folder.*included: english"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="no trained network in this folder"):
        load(tmp_path)
    for metadata in (None, {"format": "pt"}):
        save_file({"layer_01.kernel": np.zeros(3)}, tmp_path / "b.safetensors", metadata)
        with pytest.raises(UserError, match="not a network of w2l_jax"):
            load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, r"a\.safetensors: its metadata are damaged .*model"),
        ({"alphabet": None}, "metadata are damaged .*alphabet"),
        ({"digest": None}, "its digest differs"),
        ({"digest": "0"}, "changed or damaged"),
        ({"model": {"width": "4"}}, "metadata are damaged .*width must be of type int"),
        ({"model": {"activation": "step"}}, "metadata are damaged .*activation must be one of relu, elu"),
        ({"model": [4]}, "metadata are damaged"),
        ({"decoder": {"lm_weight": "high"}}, "metadata are damaged .*lm_weight must be of type float"),
        ({"alphabet": {"characters": list("abc")}}, "metadata are damaged .*not text"),
        ({"step": float("inf")}, "metadata are damaged"),
        ({"model": {"depth": 4}}, "metadata are damaged .*depth"),
        ({"alphabet": {}}, "metadata are damaged .*alphabet"),
        ({"alphabet": 3}, "metadata are damaged"),
        ({"step": "many"}, "metadata are damaged"),
        ({"decoder": {"beam": 3}}, "metadata are damaged"),
        ({"format": 9}, "format 9, but this version reads 3; upgrade"),
        ({"format": 2}, "format 2, but this version reads 3; it is of an older version: save it again from its run"),
        ({"format": 1, "digest": None}, "format 1, .* older version"),
        ({"alphabet": json.loads(preset("en").to_json())}, r"layer_11 is \{.*33.*\}, not \{.*29.*\}"),
    ],
)
def test_metadata_that_are_missing_damaged_or_of_another_network(path, changes, message):
    rewrite(path, **changes)
    with pytest.raises(UserError, match=message):
        load(path)


def test_parameters_that_do_not_fit(recognizer, params):
    wrong = [
        ({name: leaf for name, leaf in params.items() if name != "layer_03"}, "layer_03 is None"),
        ({**params, "layer_12": params["layer_11"]}, "layer_12 is .*, not None"),
        ({**params, "layer_05": {"kernel": params["layer_05"]["kernel"]}}, "layer_05 is .*bias"),
        ({**params, "layer_05": jax.tree.map(np.transpose, params["layer_05"])}, r"layer_05 is .*\(4, 4, 7\)"),
    ]
    for tree, message in wrong:
        with pytest.raises(ValueError, match=f"params: .*{message}"):
            dataclasses.replace(recognizer, params=tree)


def test_weights_that_are_not_finite(recognizer, tmp_path, monkeypatch):
    params = jax.tree.map(np.array, recognizer.params)
    params["layer_04"]["bias"][1] = np.nan
    broken = dataclasses.replace(recognizer, params=params)
    with pytest.raises(UserError, match=r"layer_04\.bias holds values that are not finite"):
        broken.save(tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
    with monkeypatch.context() as earlier:  # a version that did not check
        earlier.setattr(np, "isfinite", lambda array: np.True_)
        broken.save(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"layer_04\.bias holds values that are not finite"):
        load(tmp_path / "a.safetensors")


def test_files_are_written_atomically_and_never_overwritten(recognizer, path):
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists"):
        recognizer.save(path)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="one \\.safetensors file"):
        recognizer.save(path.with_suffix(".npz"))


@pytest.fixture(scope="module")
def trained(tones, cache, tmp_path_factory):
    """A run of twelve updates."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    options = config.from_table(
        TrainOptions,
        {
            "run": str(folder), "steps": 12, "batch_size": 8, "log": {"eval_every": 12},
            "model": {"width": 16, "top_width": 24},
            "data": {
                "train": str(tones / "train.jsonl"), "dev": str(tones / "dev.jsonl"), "cache": str(cache),
                "buckets": 1, "workers": 1,
            },
        },
        "test",
    )  # fmt: skip
    train(create(options, lambda _: None), lambda _: None)
    return Run.open(folder)


def test_a_run_as_a_recognizer_and_as_a_file(trained, tones, tmp_path):
    (trained.folder / "README.md").write_text(CARD, encoding="utf-8")
    of_run = load(trained.folder)
    assert (of_run.model, of_run.features, of_run.alphabet) == (trained.model, trained.features, trained.alphabet)
    assert (of_run.language, of_run.step, of_run.card) == ("english", 12, CARD)
    of_run.save(tmp_path / "exact.safetensors", "float32")
    recording = tones / json.loads((tones / "dev.jsonl").read_text().splitlines()[0])["audio_filepath"]
    ours = of_run.logits(recording)
    heard = features.compute(audio.load(recording), trained.features)
    np.testing.assert_array_equal(ours, inference.logits(trained.restore_params("best"), heard, trained.model))
    np.testing.assert_array_equal(ours, load(tmp_path / "exact.safetensors").logits(recording))
    assert str(trained.folder.parent).encode() not in (tmp_path / "exact.safetensors").read_bytes()


def test_the_script_writes_a_file_that_every_command_takes(trained, tones, cache, tmp_path):
    done = launch("export.py", f"--run={trained.folder}", "--out=given.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "given.safetensors: step 12, 0.3 MB in bfloat16" in done.stdout
    done = launch("export.py", f"--run={trained.folder}", "--out=given.safetensors", cwd=tmp_path)
    assert done.returncode == 1 and "exists" in done.stderr
    done = launch(
        "train.py", "--init=given.safetensors", "--frozen_layers=8", f"--data.train={tones}/german.jsonl", "--steps=2",
        "--batch_size=8", f"--data.cache={cache}", "--data.workers=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 steps are done: runs/german_k8" in done.stdout
    done = launch("decode.py", "--run=given.safetensors", f"--data={tones}/dev.jsonl", "--worst=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "given" / "decode" / "dev.jsonl").is_file()


def test_every_form_of_input_gives_the_same_transcription(tmp_path):
    english = load("english")
    rng = np.random.default_rng(0)
    envelope = np.repeat(rng.uniform(0, 1, 40), 1600)
    waveform_N = (0.3 * envelope * rng.standard_normal(64_000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", waveform_N, 16_000, "FLOAT")
    of_file = english.transcribe(tmp_path / "a.wav")
    assert of_file == english.transcribe(str(tmp_path / "a.wav")) == english.transcribe(waveform_N)
    assert of_file == english.transcribe(iter(np.split(waveform_N, [1, 5000, 5001, 40_000])))
    assert of_file == english.decode(english.logits(waveform_N))
    assert of_file.text == greedy(english.logits(waveform_N).argmax(axis=1), english.alphabet) and of_file.text
    assert [word.word for word in of_file.words] == of_file.text.split()
    assert all(0 <= word.start < word.end <= 4.02 for word in of_file.words)
    coarse = np.round(waveform_N * 32768).clip(-32768, 32767).astype(np.int16)
    np.testing.assert_array_equal(english.logits(coarse), english.logits(coarse / np.float32(32768)))
    # Half the rate: the same as a file at that rate.
    soundfile.write(tmp_path / "b.wav", waveform_N[::2], 8_000, "FLOAT")
    with pytest.warns(UserWarning, match="8000 Hz"):
        half = english.logits(tmp_path / "b.wav")
    np.testing.assert_array_equal(english.logits(waveform_N[::2], rate=8_000), half)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (np.zeros((2, 100)), r"waveform has the shape \[2, 100\]; give one channel"),
        (np.zeros(100, np.int32), "type int32"),
        (np.full(100, np.nan), "not finite"),
        ("none.wav", "none.wav: no such audio file"),
    ],
)
def test_inputs_that_are_not_recordings(recording, message):
    with pytest.raises(ValueError, match=message):
        load("english").transcribe(recording)


def test_a_wrong_language_model_is_named_and_the_network_is_not_blamed(tmp_path):
    with pytest.raises(UserError, match=r"^nowhere is not a language model \(lm.bin is missing\); build one$"):
        load("english", lm="nowhere")


@pytest.mark.parametrize("rate", [0, -1, 1.5, None])
def test_a_rate_is_a_number_of_samples(rate):
    with pytest.raises(UserError, match=r"^rate=.*: give the waveform's samples per second, such as 16000"):
        load("english").transcribe(np.zeros(16_000, np.float32), rate=rate)


def test_unusable_logits_and_dtypes_are_refused(recognizer, tmp_path):
    with pytest.raises(UserError, match="logits hold NaN"):
        load("english").decode(np.full((5, 29), np.nan))
    with pytest.raises(UserError, match="dtype=float16: choose from bfloat16, float32"):
        recognizer.save(tmp_path / "b.safetensors", "float16")
    assert not (tmp_path / "b.safetensors").exists()


def test_logits_of_another_alphabet():
    with pytest.raises(ValueError, match=r"shape \[5, 7\], not \[S, 29\]"):
        load("english").decode(np.zeros((5, 7)))


def test_a_named_language_model_is_used(hand_lm):  # noqa: F811
    from w2l_jax.decoding.decoder import Decoder

    english = load("english", lm=hand_lm)
    assert english.decoder == DecoderConfig(lm=str(hand_lm)) and english.decoder.beam_width == 100
    logits_SxV = np.random.default_rng(0).standard_normal((60, 29)).astype(np.float32) * 3
    expected = Decoder(english.alphabet, hand_lm).decode(logits_SxV)
    found = english.decode(logits_SxV)
    assert found.text == expected.text and found.segments[0].transcript == expected
    assert all(0 <= word.confidence <= 1 for word in found.words)


class TestIncluded:
    def test_the_included_network_is_small_and_described(self):
        assert sorted(INCLUDED) == ["english"]
        assert 4e6 < INCLUDED["english"].stat().st_size < 6e6
        english = load("english")
        assert english.card == INCLUDED["english"].with_suffix(".md").read_text(encoding="utf-8")
        for word in ("Licence", "en_dev", "seed", "LER", "Limitations"):
            assert word in english.card
        assert english.language == "english" and b"/tmp/" not in INCLUDED["english"].read_bytes()

    def test_the_included_network_is_used_without_a_run(self, tones, tmp_path):
        line = json.loads((tones / "dev.jsonl").read_text().splitlines()[0])
        done = launch("transcribe.py", str(tones / line["audio_filepath"]), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "network: english (included; no run exists), step 3600\n" in done.stderr
        output = done.stdout
        done = launch("transcribe.py", str(tones / line["audio_filepath"]), "--run=english", cwd=tmp_path)
        assert done.stdout == output and "included" not in done.stderr
        done = launch("decode.py", f"--data={tones}/dev.jsonl", "--worst=1", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "results" / "english" / "decode" / "dev.jsonl").is_file()

    def test_from_the_command_line_of_the_package(self, tones, tmp_path):
        lines = (tones / "dev.jsonl").read_text().splitlines()[:2]
        names = [str(tones / json.loads(line)["audio_filepath"]) for line in lines]
        run = lambda *options: subprocess.run(  # noqa: E731
            [sys.executable, "-m", "w2l_jax", *options], capture_output=True, text=True, cwd=ROOT
        )
        done = run(*names, "--format=json")
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [record["recording"] for record in found] == names
        done = run(names[0], "none.wav")
        assert done.returncode == 1 and done.stderr == "error: none.wav: no such audio file\n"
        assert run(names[0], "--run=none").returncode == 1
