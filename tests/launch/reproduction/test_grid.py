import dataclasses

import pytest

from reproduction.grid import (
    EXPERIMENTS,
    K0,
    K8,
    REINITIALIZED,
    SCRATCH,
    UNFROZEN,
    Corpus,
    Language,
    Scale,
    Variant,
)
from w2l_jax.errors import UserError

GERMAN = Language(
    "german", "train", "dev", experiments=("figure2", "figure3", "figure5", "figure6", "unfreezing"),
    amounts=(1.5, 0.2),
    seeds=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("figure2", {K8, REINITIALIZED}),
        ("figure3", {Variant(k) for k in (0, 6, 8, 9, 10)}),
        ("figure5", {SCRATCH, K0}),
        ("figure6", {K8, K8._replace(hours=1.5), K8._replace(hours=0.2)}),
        ("unfreezing", {K0, K8, UNFROZEN, SCRATCH}),
        ("figure2, figure5", {K8, REINITIALIZED, SCRATCH, K0}),
        ("figure4", set()),
        ("table1", set()),  # which does not include this language
    ],
)
def test_networks_of_each_experiment(only, expected):
    cells = Scale(languages=(GERMAN,), only=only).cells()
    assert {cell.variant for cell in cells} == expected
    assert len(cells) == 2 * len(expected)


def test_cells_are_shared_once_and_named_uniquely():
    french = dataclasses.replace(GERMAN, name="french", seeds=1)
    cells = Scale(languages=(GERMAN, french)).cells()
    # k = 0, 6, 8, 9, 10, reinitialised, unfrozen, from scratch and two amounts of k = 8.
    assert len(cells) == 10 * 3
    assert len({cell.name for cell in cells}) == len(set(cells)) == len(cells)
    assert [cell.seed for cell in cells] == [0] * 20 + [1] * 10
    assert {"german_k8_reinitialized_seed1", "french_k8_0.2h_seed0", "german_scratch_seed0"} <= {c.name for c in cells}
    assert K8._replace(hours=0.2).text == "k = 8, 0.2 h" and UNFROZEN.text == "k = 8, then all layers"


def test_wrong_names():
    with pytest.raises(UserError, match=r"--only=figure1: there are figure2"):
        _ = Scale(only="figure1").experiments
    assert Scale(only=" figure4 ,memory").experiments == ("figure4", "memory") and Scale().experiments == EXPERIMENTS
    with pytest.raises(UserError, match="german: no experiment 'figure1'"):
        Language("german", "a", "b", experiments=("figure1",))
    with pytest.raises(UserError, match="needs name, train and dev"):
        Language("german")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tests": ("alc/test", "pd1/test")}, "two of dev and tests are called test"),
        ({"tests": ("other/dev",)}, "two of dev and tests are called dev"),
        ({"amounts": ()}, "figure6 needs amounts"),
        (
            {"arguments": ("--stop.max_hours=25",)},
            "--stop.max_hours=25: networks are compared after equally many updates",
        ),
    ],
)
def test_languages_with_colliding_results_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(GERMAN, **change)


def test_scales_with_colliding_results_are_refused():
    with pytest.raises(UserError, match=r"two of .* are called german"):
        Scale(languages=(GERMAN, dataclasses.replace(GERMAN, steps=7)))
    near = [Language(name, "train", "dev", distance="near") for name in ("dutch", "danish")]
    with pytest.raises(UserError, match=r"two of .* are near"):
        Scale(languages=tuple(near))
    with pytest.raises(UserError, match="forgetting needs base_data"):
        Scale(languages=(dataclasses.replace(GERMAN, experiments=("forgetting",)),))


def test_data_are_prepared_folders_or_manifests(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / f"{folder}.jsonl").touch()
    (tmp_path / "a" / "prepared.json").touch()  # the folder b has the recordings of b.jsonl
    scale = Scale(data=str(tmp_path))
    assert scale.find("a") == str(tmp_path / "a") and scale.find("b") == str(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match=r"neither .*c nor .*c\.jsonl exists; give their folder with --data"):
        scale.find("c")


def test_speech_may_be_synthesised_later(tmp_path):
    """So --dry_run can show the demo's commands before anything exists."""
    scale = Scale(data="", synthesized=(Corpus(folder=str(tmp_path / "demo")),))
    assert scale.find(f"{tmp_path}/demo/train") == f"{tmp_path}/demo/train.jsonl"
    with pytest.raises(UserError, match="neither"):
        scale.find(f"{tmp_path}/demonstration/train")
    assert scale.find_text(f"{tmp_path}/demo/text.txt") == f"{tmp_path}/demo/text.txt"
    with pytest.raises(UserError, match="no such text for a language model"):
        scale.find_text(f"{tmp_path}/text.txt")
    (tmp_path / "text.txt").touch()
    assert scale.find_text(f"{tmp_path}/text.txt") == f"{tmp_path}/text.txt"
