"""Introspection: numbers against plain loops, claims on networks made to satisfy or violate them, pictures."""

import dataclasses
import math
import statistics

import numpy as np
import pytest
from matplotlib.figure import Figure

from introspection import weight_figures as figures
from introspection import weight_page as page
from introspection.weight_changes import Adaptation, Checkpoint, measure, read
from introspection.weight_claims import claims
from w2l_jax import features, model
from w2l_jax.alphabet import preset
from w2l_jax.errors import UserError
from w2l_jax.losses import TRANSITIONS
from w2l_jax.run import Run
from w2l_jax.training.options import FreezeOptions, TrainOptions

SIZE = model.ModelConfig(width=5, top_width=40)
MELS = 16


def network(seed: int = 0, outputs: int = 29, scale=lambda layer: 0.05):
    """Random weights of standard deviation `scale(layer)`, no larger than three of them."""
    rng = np.random.default_rng(seed)
    params = {}
    for number, layer in enumerate(model.layers(SIZE, outputs, MELS), start=1):
        shape = (layer.kernel, layer.channels_in, layer.channels_out)
        kernel = scale(number) * np.clip(rng.standard_normal(shape), -3, 3)
        params[layer.name] = {"kernel": kernel.astype(np.float32), "bias": np.ones(shape[-1], np.float32)}
    return params


def moved(params, seed, scale):
    other = network(seed, scale=scale)
    return {
        name: {"kernel": params[name]["kernel"] + other[name]["kernel"], "bias": params[name]["bias"]}
        for name in params
    }


def compare(base, *stages, inherited=range(1, 11)):
    named = tuple(Checkpoint(f"adapted, step {i}", params) for i, params in enumerate(stages, start=1))
    return measure(Adaptation(Checkpoint("base", base), named, frozenset(inherited)))


def outer(high, low):
    return lambda layer: high if layer in (1, 10) else low


@pytest.fixture(scope="module")
def paper():
    """Two networks for which every claim of the paper holds."""
    base = network(scale=outer(0.1, 0.04))
    early = moved(base, 1, lambda layer: 0.0001 if layer == 1 else 0.0002)
    return compare(base, early, moved(base, 2, outer(0.002, 0.0008)))


def test_numbers_of_layers_are_those_of_plain_loops():
    base, adapted = network(1), network(2)
    found = compare(base, adapted)
    assert [(row.layer, row.checkpoint) for row in found.layers[:4]] == [
        (1, "base"), (1, "adapted, step 1"), (2, "base"), (2, "adapted, step 1"),
    ]  # fmt: skip
    for row in found.of("adapted, step 1"):
        old, new = ([float(w) for w in p[f"layer_{row.layer:02d}"]["kernel"].flat] for p in (base, adapted))
        change = [a - b for a, b in zip(new, old, strict=True)]
        rms = math.sqrt(math.fsum(c * c for c in change) / len(change))
        assert row.weights == len(new)
        assert row.mean == pytest.approx(statistics.fmean(new), abs=1e-9)
        assert row.deviation == pytest.approx(statistics.pstdev(new), rel=1e-6)
        assert row.largest == max(map(abs, new)) and row.small == sum(abs(w) <= 0.2 for w in new) / len(new)
        assert row.rms_change == pytest.approx(rms, rel=1e-5)
        assert row.largest_change == pytest.approx(max(map(abs, change)), rel=1e-6)
        assert row.relative_change == pytest.approx(rms / math.hypot(*old) * math.sqrt(len(old)), rel=1e-5)
    assert all(row.rms_change is None for row in found.of("base"))


def test_histograms_count_every_weight_once_in_the_papers_bins():
    base = network()
    base["layer_01"]["kernel"][0, 0, 0] = -2.3
    adapted = {name: {"kernel": layer["kernel"].copy()} for name, layer in base.items()}
    adapted["layer_10"]["kernel"][0, 0, 0] += 0.355
    found = compare(base, adapted)
    assert found.weights.edges[[0, 1, 12, 24]] == pytest.approx([-2.4, -2.2, 0, 2.4])
    assert found.changes.edges == pytest.approx(np.arange(37) * 0.01)
    for index in range(10):
        kernel = base[f"layer_{index + 1:02d}"]["kernel"]
        counts = [0] * 24
        for weight in kernel.flat:
            counts[min(math.floor((float(weight) + 2.4) / 0.2), 23)] += 1
        np.testing.assert_allclose(found.weights.fractions["base"][index] * kernel.size, counts, atol=1e-6)
    changes_LxN = found.changes.fractions["adapted, step 1"]
    assert changes_LxN[:9, 0] == pytest.approx(1) and changes_LxN[9, -1] == pytest.approx(1 / 1600)


def test_every_claim_can_be_confirmed(paper):
    assert {c.name: c.holds for c in claims(paper)} == dict.fromkeys(
        ["outer_weights", "means", "small_variance", "distributions_alike", "outer_changes_largest",
         "outer_changes_rms", "changes_grow", "input_changes_late"], True,
    )  # fmt: skip
    (growing,) = (c for c in claims(paper) if c.name == "changes_grow")
    assert growing.numbers["adapted, step 2"][0] == pytest.approx(0.006, rel=0.02)
    assert growing.found == "adapted, step 1: at most 0.0006; adapted, step 2: at most 0.006"


@pytest.mark.parametrize(
    ("name", "base_scale", "early_scale", "final_scale"),
    [
        ("outer_weights", lambda _: 0.05, lambda _: 0.001, outer(0.01, 0.004)),
        ("small_variance", outer(0.4, 0.3), lambda _: 0.001, outer(0.01, 0.004)),
        ("distributions_alike", outer(0.1, 0.04), lambda _: 0.001, outer(0.1, 0.04)),
        ("outer_changes_largest", outer(0.1, 0.04), lambda _: 0.001, outer(0.004, 0.01)),
        ("outer_changes_rms", outer(0.1, 0.04), lambda _: 0.001, outer(0.004, 0.01)),
        ("changes_grow", outer(0.1, 0.04), outer(0.01, 0.004), outer(0.01, 0.004)),
        ("input_changes_late", outer(0.1, 0.04), outer(0.01, 0.004), lambda _: 0.004),
    ],
)
def test_a_claim_can_fail(name, base_scale, early_scale, final_scale):
    base = network(scale=base_scale)
    found = claims(compare(base, moved(base, 1, early_scale), moved(base, 2, final_scale)))
    assert {c.name: c.holds for c in found}[name] is False


def test_nonzero_means_are_detected(paper):
    base = network()
    base["layer_07"]["kernel"] += 0.04
    (claim,) = (c for c in claims(compare(base, base)) if c.name == "means")
    assert claim.holds is False and "(layer 7)" in claim.found


def test_frozen_and_new_layers_decide_no_claim_about_changes():
    base = network(scale=outer(0.1, 0.04))
    adapted = moved(base, 1, lambda layer: 0.0 if layer <= 8 else 0.01)
    found = compare(base, adapted)
    rows = found.of(found.stages[-1])
    assert all((row.rms_change, row.largest_change, row.relative_change) == (0, 0, 0) for row in rows[:8])
    assert all(row.rms_change > 0 for row in rows[8:])
    told = {c.name: c for c in claims(found)}
    assert told["outer_changes_rms"].holds is None and "layers 1, 2, 3, 4" in told["outer_changes_rms"].found
    assert told["outer_weights"].holds and told["changes_grow"].holds is None
    assert "no early checkpoint" in told["changes_grow"].found
    fresh = {**base, **{name: network(9)[name] for name in ("layer_09", "layer_10")}}
    told = {c.name: c for c in claims(compare(base, fresh, inherited=range(1, 9)))}
    assert told["distributions_alike"].holds is None and told["distributions_alike"].verdict == "not testable"
    assert told["distributions_alike"].found.startswith("layers 9, 10 did not start from the base's weights")


def test_a_network_compared_with_itself_and_the_smallest_network(monkeypatch):
    monkeypatch.setattr(f"{__name__}.SIZE", model.ModelConfig(width=1, top_width=1))
    found = compare(network(), network())
    shown = page.selected(found)
    assert found.changes.edges[0] == 0 and [why for why, _ in shown] == ["most changed"]
    assert {claim.holds for claim in claims(found) if "changes" in claim.name} == {None}
    for draw in (figures.distributions, figures.contact_sheet):
        draw(Figure(), found)
    figure = Figure()
    figures.filters(figure, found, shown)
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def kilohertz():
    """The mel band in which 1 kHz is loudest."""
    return int(features.filters_MxF(128)[:, round(1000 / 16000 * 512)].argmax())


def planted():
    """Networks of 128 bands whose input layers differ in filter 3 alone: at frame 30, in the band around 1 kHz."""
    base = network()
    base["layer_01"]["kernel"] = np.full((48, 128, 5), 0.01, np.float32)
    adapted = {**base, "layer_01": {"kernel": base["layer_01"]["kernel"].copy()}}
    adapted["layer_01"]["kernel"][30, kilohertz(), 2] = -0.5
    return compare(base, adapted)


def test_a_filter_is_drawn_where_it_changed():
    found = planted()
    assert [row.filter for row in found.filters] == [3, 1, 2, 4, 5]
    top = found.filters[0]
    assert top.largest_change == pytest.approx(0.51) and top.rms_change == pytest.approx(0.51 / math.sqrt(48 * 128))
    assert top.base_norm == pytest.approx(0.01 * math.sqrt(48 * 128), rel=1e-5)
    figure = Figure(layout="constrained")
    figures.filters(figure, found, page.selected(found, [4]))
    figure.draw_without_rendering()
    pictures = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title().splitlines()[0] for axes in pictures[::3]] == [
        "filter 3, most changed", "filter 1, most changed", "filter 4, least changed", "filter 5, least changed",
        "filter 4, chosen",
    ]  # fmt: skip
    change, adapted, base = (axes.images[0] for axes in pictures[:3])
    values_MxK = change.get_array()
    row, column = np.unravel_index(values_MxK.argmax(), values_MxK.shape)
    left, right, bottom, top = change.get_extent()
    assert left + (column + 0.5) * (right - left) / 48 == 30.5 * 8  # milliseconds
    height = bottom + (row + 0.5) * (top - bottom) / 128
    ticks = {label.get_text(): label.get_position()[1] for label in pictures[0].get_yticklabels()}
    assert height == pytest.approx(ticks["1000"], abs=1)
    assert ticks["500"] < ticks["1000"] < ticks["4000"] < 128
    assert adapted.get_clim() == base.get_clim() == (-0.5, 0.5)
    assert {axes.images[0].get_clim() for axes in pictures[::3]} == {(0, top_change := found.filters[0].largest_change)}
    assert top_change == pytest.approx(0.51)


def test_the_contact_sheet_has_every_filter_the_most_changed_first():
    figure = Figure(layout="constrained")
    found = planted()
    figures.contact_sheet(figure, found)
    axes = figure.axes[0]
    names = [text.get_text().split(":")[0] for text in axes.texts if text.get_text()[0].isdecimal()]
    assert names == ["3", "1", "2", "4", "5"]
    sheet = axes.images[0].get_array().astype(int)
    (rows, columns) = np.nonzero((sheet[..., :3].sum(axis=2) > 600) & (sheet[..., 3] == 255) & (sheet[..., 2] < 200))
    assert list(columns) == [30]  # the one bright pixel of the changes, in the first filter
    names_y = [text.get_position()[1] for text in axes.texts if text.get_text().startswith("3:")]
    assert rows[0] == names_y[0] + 3 + 127 - kilohertz()  # low frequencies below
    assert figure.get_size_inches()[1] * 110 == pytest.approx(len(sheet))


def test_filters_are_named_from_1():
    assert page.parse_filters("", 5) == () and page.parse_filters(" 5,1,5", 5) == (5, 1)
    for text in ("0", "6", "x", "1,-2"):
        with pytest.raises(UserError, match="filters 1 to 5"):
            page.parse_filters(text, 5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Makes run folders, with parameters by step."""
    folder = tmp_path_factory.mktemp("runs")

    def make(name, checkpoints, language="english", loss="ctc", **options):
        options = TrainOptions(**{"model": SIZE, "features": features.FeatureConfig(mels=MELS), **options})
        alphabet = dataclasses.replace(preset(language), repetitions=2) if loss == "asg" else preset(language)
        run = Run.create(folder / name, options, alphabet)
        for step, params in checkpoints.items():
            run.save(step, params, None, {"step": step}, best=max(checkpoints), keep=list(checkpoints))
        return run.folder

    return make


def test_the_base_is_read_from_the_run(runs, monkeypatch):
    base = network(1)
    home = runs("home", {10: base, 20: network(2)}).parent
    stages = {5: moved(base, 3, lambda _: 0.001), 40: moved(base, 4, lambda _: 0.01)}
    run = runs("adapted", stages, init=str(home / "home"), freeze=FreezeOptions(init_checkpoint="10"))
    (home / "latest").symlink_to("adapted")
    found = read(home / "latest")
    assert found.base.name == "home, step 10 (base)"
    assert [stage.name for stage in found.stages] == ["adapted, step 5", "adapted, step 40"]
    np.testing.assert_array_equal(found.base.params["layer_03"]["kernel"], base["layer_03"]["kernel"])
    np.testing.assert_array_equal(found.stages[1].params["layer_03"]["kernel"], stages[40]["layer_03"]["kernel"])
    assert read(run, home / "home").base.name == "home, step 20 (base)"
    assert len(read(run, early="none").stages) == 1 and len(read(run, early="5", checkpoint="last").stages) == 2
    assert len(read(run, checkpoint="5").stages) == 1
    assert found.inherited == set(range(1, 11))
    late = runs("late", {30: base, 40: base}, init=str(home / "home"))
    assert len(read(late).stages) == 1 and len(read(late, early="30").stages) == 2  # after three quarters is not early


def test_reinitialised_layers_and_asg_are_recognised(runs):
    home = runs("base2", {10: network(1)})
    fresh = runs("fresh", {10: network(2)}, init=str(home), frozen_layers="1-3,11", reinitialize=True)
    assert read(fresh).inherited == {1, 2, 3}
    scratch = runs("scratch", {10: network(3)})
    assert read(scratch, home).inherited == frozenset()
    params = {**network(4, outputs=34), TRANSITIONS: {"scores": np.zeros((34, 34), np.float32)}}
    asg = runs("asg", {10: params}, language="german", loss="asg", init=str(home))
    assert len(measure(read(asg)).layers) == 20


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {}, "trained from scratch.*--base"),
        ({"init": "runs/gone"}, {}, "adapted from runs/gone; give its path with --base"),
        (
            {"init": "BASE", "freeze": FreezeOptions(init_checkpoint="77")},
            {},
            "no checkpoint '77'.*10",
        ),
        ({"init": "BASE"}, {"checkpoint": "3"}, "no checkpoint '3'"),
        ({"init": "BASE"}, {"early": "3"}, "no checkpoint '3'"),
        ({"init": "BASE"}, {"early": "10"}, "step 10 is not before"),
        ({"init": "BASE"}, {"base": "nowhere"}, "nowhere: no such file, run folder"),
        ({"init": "BASE", "model": model.ModelConfig(width=4, top_width=40)}, {}, r"model.width \(4 and 5\)"),
        ({"init": "BASE", "model": dataclasses.replace(SIZE, activation="elu")}, {}, r"activation \(elu and relu\)"),
        ({"init": "BASE", "features": features.FeatureConfig(mels=8)}, {}, r"features.mels \(8 and 16\)"),
        ({"init": "BASE", "features": features.FeatureConfig(16, "db_of_mel")}, {}, r"features.order \(db_of_mel and"),
    ],
)
def test_networks_that_cannot_be_compared_are_named(runs, tmp_path, request, options, arguments, message):
    home = runs(f"{tmp_path.name}_base", {10: network()})
    options = {name: str(home) if value == "BASE" else value for name, value in options.items()}
    run = runs(tmp_path.name, {10: network()}, **options)
    with pytest.raises(UserError, match=message):
        read(run, **arguments)
