import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import freezing, model, transfer
from w2l_jax.alphabet import PRESETS, Alphabet, preset
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig

CONFIG = ModelConfig(width=4, top_width=5)


def network(seed, outputs):
    return jax.device_get(model.init(jax.random.key(seed), CONFIG, outputs, mels=3))


def test_alphabet_change_by_character():
    english, german = preset("en"), preset("de")
    params = network(0, english.size)
    params["layer_11"]["bias"] = np.arange(1, english.size + 1, dtype=np.float32)
    moved, remap = transfer.carry_output(params, english, german)
    kernel, bias = moved["layer_11"]["kernel"], moved["layer_11"]["bias"]
    assert kernel.shape == (1, 5, 33)
    # Blank to blank, and the first character survives (the authors' program once lost it).
    np.testing.assert_array_equal(bias[:29], params["layer_11"]["bias"])
    np.testing.assert_array_equal(kernel[..., :29], params["layer_11"]["kernel"])
    assert not kernel[..., 29:].any() and not bias[29:].any()
    assert remap == transfer.Remap(kept=english.characters, new="äöüß", dropped="", copied={})
    np.testing.assert_array_equal(moved["layer_10"]["kernel"], params["layer_10"]["kernel"])


@given(st.permutations("abcdef"), st.integers(1, 6), st.permutations("cdefgh"), st.integers(1, 6))
def test_alphabet_change_in_any_order(old, n, new, m):
    old, new = Alphabet("".join(old[:n])), Alphabet("".join(new[:m]))
    params = network(1, old.size)
    params["layer_11"]["bias"] = np.arange(1, old.size + 1, dtype=np.float32)
    moved, remap = transfer.carry_output(params, old, new)
    bias = dict(zip(new.characters, np.asarray(moved["layer_11"]["bias"])[1:].tolist(), strict=True))
    before = dict(zip(old.characters, params["layer_11"]["bias"][1:].tolist(), strict=True))
    assert bias == {c: before.get(c, 0.0) for c in new.characters}
    assert set(remap.kept) | set(remap.dropped) == set(old.characters)


def test_new_characters_copied_from_similar_ones():
    old, new = Alphabet("abcos q'"), Alphabet("aäößñç'ō")
    params = network(1, old.size)
    params["layer_11"]["bias"] = np.arange(1, old.size + 1, dtype=np.float32)
    moved, remap = transfer.carry_output(params, old, new, "copy")
    #                                      blank a ä o s  ñ  c '  o
    np.testing.assert_array_equal(moved["layer_11"]["bias"], [1, 2, 2, 5, 6, 0, 4, 9, 5])
    kernel, before = moved["layer_11"]["kernel"], params["layer_11"]["kernel"]
    np.testing.assert_array_equal(kernel[..., [0, 1, 2, 3, 4, 6, 7, 8]], before[..., [0, 1, 1, 4, 5, 3, 8, 4]])
    assert not kernel[..., 5].any()  # ñ: there is no n to copy
    assert remap == transfer.Remap("a'", "äößñçō", "bcos q", {"ä": "a", "ö": "o", "ß": "s", "ç": "c", "ō": "o"})
    assert remap.text() == (
        "alphabet: kept a', new ä (copied from a) ö (copied from o) ß (copied from s) ñ (zero) ç (copied from c) "
        "ō (copied from o), dropped bcos␣q"
    )
    # A copy and its source share the source's probability: both are exactly equally likely.
    x_C = np.random.default_rng(0).standard_normal(5).astype(np.float32)
    logits_V = x_C @ np.asarray(kernel[0]) + np.asarray(moved["layer_11"]["bias"])
    assert logits_V[1] == logits_V[2] and logits_V[3] == logits_V[8]


def test_every_preset_maps_its_characters_to_english():
    english = preset("en")
    for language in PRESETS:
        new = preset(language)
        _, remap = transfer.carry_output(network(0, english.size), english, new, "copy")
        assert set(remap.copied) == set(remap.new), language
        assert transfer.carry_output(network(0, english.size), english, new)[1].copied == {}


def test_a_wrong_alphabet_is_refused():
    with pytest.raises(UserError, match="the output layer has 6 labels but alphabet `old` needs 29"):
        transfer.carry_output(network(0, 6), preset("en"), preset("de"))


def test_reinitialize_keeps_the_frozen_layers():
    old, fresh = network(0, 6), network(1, 6)
    mixed = freezing.reinitialize(old, fresh, frozenset(range(1, 9)))
    for number in range(1, 12):
        name = model.layer_name(number)
        np.testing.assert_array_equal(mixed[name]["kernel"], (old if number <= 8 else fresh)[name]["kernel"])


def asg_network(alphabet, seed=1):
    params = jax.device_get(transfer.init(jax.random.key(seed), CONFIG, alphabet, mels=3))
    params["transitions"]["scores"] = np.random.default_rng(seed).standard_normal((alphabet.size,) * 2, np.float32)
    params["layer_11"]["bias"] = np.arange(1, alphabet.size + 1, dtype=np.float32)
    return params


@given(st.permutations("abcdef"), st.integers(1, 6), st.permutations("cdefgh"), st.integers(1, 6))
def test_transitions_are_inherited_by_letter(old, n, new, m):
    old, new = Alphabet("".join(old[:n]), 2), Alphabet("".join(new[:m]), 2)
    params = asg_network(old)
    moved, remap = transfer.carry_output(params, old, new)
    before, after = params["transitions"]["scores"], np.asarray(moved["transitions"]["scores"])
    stay = np.float32(np.log(3 * (new.size - 1)))
    names, were = ["2", "3", *new.characters], {c: i for i, c in enumerate(["2", "3", *old.characters])}
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            fresh = pytest.approx(stay * (a == b))
            assert after[i, j] == (before[were[a], were[b]] if a in were and b in were else fresh)
    assert moved["layer_11"]["bias"].tolist() == [were.get(c, -1) + 1 for c in names]
    assert remap.criterion == "" and set(remap.kept) | set(remap.dropped) == set(old.characters)


def test_a_copied_character_inherits_transitions():
    old, new = Alphabet("ab", 2), Alphabet("äb", 2)
    params = asg_network(old)
    moved, _ = transfer.carry_output(params, old, new, "copy")
    np.testing.assert_array_equal(moved["transitions"]["scores"], params["transitions"]["scores"])


def test_between_ctc_and_asg_only_letters_are_inherited():
    ctc, asg = Alphabet("abc"), Alphabet("cb", 2)
    params = network(0, ctc.size)
    params["layer_11"]["bias"] = np.array([9, 1, 2, 3], np.float32)
    asg_params, remap = transfer.carry_output(params, ctc, asg)
    assert asg_params["layer_11"]["bias"].tolist() == [0, 0, 3, 2]
    # A new label repeats with probability 3/4, for any number of labels.
    weights_VxV = np.exp(np.asarray(asg_params["transitions"]["scores"], float))
    np.testing.assert_allclose(np.diag(weights_VxV) / weights_VxV.sum(axis=1), 0.75, rtol=1e-6)
    assert remap.text().startswith("alphabet: kept cb, new none, dropped a; from CTC to ASG: ")
    ctc_params, remap = transfer.carry_output(asg_params, asg, ctc)
    assert ctc_params["layer_11"]["bias"].tolist() == [0, 0, 2, 3] and "transitions" not in ctc_params
    assert "from ASG to CTC: the blank starts at zero" in remap.text()
    assert remap.text().startswith("alphabet: kept bc, new a (zero), dropped none; ")
