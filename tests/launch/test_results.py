import dataclasses
import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import results
from lm_building import of_run
from results import Result
from tests.decoding.conftest import logits_for
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.decoding import decoder_config
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.confidence import confidences
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.errors import UserError
from w2l_jax.inference import Prediction
from w2l_jax.run import Run
from w2l_jax.training.options import DataOptions, TrainOptions


def result(name, source, expected, greedy, beam=None, loss=1.0):
    transcript = None if beam is None else Transcript(beam, -1.0, -2.0, -3.0, 1)
    return Result(name, source, "s", 3600.0, expected, greedy, transcript, loss)


NEW = ("#", "temperature", "coverage", "tuned")

SOME = [
    result("a", "one", "ab cd", "ab cd", "ab cd", 2.0),
    result("b", "one", "ab", "abab", "ab", None),
    result("c", "two", "abcd", "x", "abc", 4.0),
]


def test_rows_by_hand():
    one, two, everything = results.rows(SOME)
    assert [row["corpus"] for row in (one, two, everything)] == ["one", "two", "all"]
    assert (one["utterances"], one["hours"], one["loss"]) == (2, 2.0, 2.0)  # no loss if the target does not fit
    assert one["greedy"].ler == pytest.approx((0 + 2 / 2) / 2) and one["greedy"].corpus_ler == pytest.approx(2 / 7)
    assert two["greedy"].ler == 1.0 and two["beam"].ler == 0.25 and two["beam"].wer == 1.0
    assert everything["beam"].wer == pytest.approx(1 / 3) and everything["loss"] == 3.0


def test_one_corpus_has_no_row_for_all():
    assert [row["corpus"] for row in results.rows(SOME[:2])] == ["one"]
    assert math.isnan(results.rows([result("a", "x", "a", "a", None, None)])[0]["loss"])


def test_tables_show_the_numbers_of_the_rows():
    text = results.table(SOME)
    assert text.count("greedy") == 3 and text.count("beam") == 3
    assert "66.7% [0.0, 100.0]" in text  # greedy LER over all: (0 + 1 + 1) / 3
    worst = results.worst(SOME, 2).splitlines()
    assert worst[0].startswith("c: LER 25%, WER 100%, loss 4.00") and "abcd" in worst[1] and worst[2].endswith("abc")
    assert "target too long" in results.worst(SOME, 3)


def test_table_3_by_hand():
    some = [dataclasses.replace(r, without_lm=text) for r, text in zip(SOME, ("ab cd", "abab", "abc"), strict=True)]
    rows = results.searches(some)
    assert [row["search"] for row in rows] == ["greedy", "beam, no LM", "beam, LM"] * 3
    everything = {row["search"]: row["LER"] for row in rows if row["corpus"] == "all"}
    # (0 + 1 + 1) / 3, (0 + 1 + 1/4) / 3 and (0 + 0 + 1/4) / 3
    assert [text.split()[0] for text in everything.values()] == ["66.7%", "41.7%", "8.3%"]
    assert rows[0]["bootstrap over"] == "utterances"
    bare = [dataclasses.replace(r, beam=dataclasses.replace(r.beam, lm_score=0.0)) for r in SOME[:2]]
    assert [row["search"] for row in results.searches(bare)] == ["greedy", "beam, no LM"]
    assert "no LM" in results.table(some) and "no LM" not in results.table(SOME)


def test_records_are_json_with_both_transcripts():
    record = json.loads(json.dumps(SOME[2].record()))
    assert (record["expected"], record["greedy"], record["predicted"]) == ("abcd", "x", "abc")
    assert (record["greedy_ler"], record["ler"], record["score"]) == (1.0, 0.25, -1.0)
    assert not {"predicted", "without_lm"} & result("a", "x", "a", "a").record().keys()


def test_decoding_keeps_each_prediction_with_its_utterance():
    alphabet = preset("en")
    entries = [SimpleNamespace(id=c, source="s", speaker="", duration=1.0, transcript=c) for c in "abc"]
    source = SimpleNamespace(dataset=SimpleNamespace(entries=entries))
    logits = [10 * np.eye(29)[[alphabet.characters.index(c) + 1]] for c in "abc"]
    predictions = [Prediction(i, logits[i], logits[i].argmax(axis=1), float(i), i != 1) for i in (2, 0, 1)]
    found = list(results.decode(predictions, source, alphabet, None))
    assert [(r.id, r.greedy, r.loss) for r in found] == [("c", "c", 2.0), ("a", "a", 0.0), ("b", "b", None)]


@pytest.mark.parametrize("search", [True, False])
def test_details_on_request(toy_lm, search):
    alphabet = Alphabet("abc '")
    logits_SxV = logits_for([0, 1, 2, 2, 0, 4, 2, 1, 0, 0], alphabet.size, height=4.5)  # "ab", a space, "ba"
    entry = SimpleNamespace(id="u", source="s", speaker="", duration=0.16, transcript="ab ba")
    source = SimpleNamespace(dataset=SimpleNamespace(entries=[entry]))
    with DecoderPool(alphabet, toy_lm) as pool:
        predictions = [Prediction(0, logits_SxV, logits_SxV.argmax(axis=1), 0.0, True)]
        some = predictions, source, alphabet, pool if search else None
        (plain,) = results.decode(*some)
        (detailed,) = results.decode(*some, nbest=2, calibration=(2.0, 0.5))
        hypotheses = next(pool.nbest([logits_SxV], 100))
    assert (plain.words, plain.nbest) == ((), ()) and detailed.best == plain.best == "ab ba"
    assert [(word.word, word.start, word.end) for word in detailed.words] == [
        ("ab", 0.0, 0.064),
        ("ba", 0.064, 0.128),
    ]
    if search:
        assert detailed.nbest == tuple(hypotheses[:2]) and detailed.beam == plain.beam == hypotheses[0]
        assert [word.confidence for word in detailed.words] == confidences(hypotheses, 2.0, 0.5)
        assert [word.posterior for word in detailed.words] == confidences(hypotheses, 1.0)
    record = json.loads(json.dumps(detailed.record()))
    assert ("nbest" in record) == search and ("confidence" in record["words"][0]) == search
    assert not {"words", "nbest"} & plain.record().keys()


def test_searching_without_the_language_model(toy_lm):
    """With both weights at 0 the result equals that of a decoder without a language model."""
    alphabet = Alphabet("abc '")
    rng = np.random.default_rng(0)
    logits = [2 * rng.normal(size=(n, alphabet.size)).astype(np.float32) for n in (0, 5, 12, 30)]
    predictions = [Prediction(i, values, values.argmax(axis=1), 0.0, True) for i, values in enumerate(logits)]
    with DecoderPool(alphabet, toy_lm) as pool:
        found = dict(results.without_lm(predictions, pool))
        with_lm = [t.text for t in pool.decode(logits)]
    plain = Decoder(alphabet, None)
    assert found == {i: plain.decode(logits_SxV).text for i, logits_SxV in enumerate(logits)}
    assert list(found.values()) != with_lm


@pytest.fixture
def run(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("der hund bellt\ndie katze schläft\n" * 4, encoding="utf-8")
    return Run.create(tmp_path / "run", TrainOptions(data=DataOptions(train=str(text))), preset("de"))


def test_the_command_line_overrides_the_file_and_the_file_the_defaults(run):
    assert decoder_config.load(run) is None
    first = of_run.resolve(run, "", {"lm_weight": 0.5, "beam_width": None}, set(), lambda line: None)
    assert (first.lm_weight, first.beam_width, first.word_bonus) == (0.5, 100, 2.3)
    assert decoder_config.load(run).lm_weight == 0.8  # earlier options are not stored
    decoder_config.save(run, decoder_config.DecoderConfig(lm=first.lm, word_bonus=1.0))
    again = of_run.resolve(run, "", {"beam_width": 7}, set(), lambda line: None)
    assert (again.lm_weight, again.beam_width, again.word_bonus, again.lm) == (0.8, 7, 1.0, first.lm)


def test_without_a_language_model_a_beam_width_enables_the_search(run):
    assert of_run.resolve(run, "none", {"beam_width": None}, set()).beam_width == 0
    plain = of_run.resolve(run, "none", {"beam_width": 20}, set())
    assert (plain.lm, plain.beam_width) == ("", 20)
    decoder_config.save(run, decoder_config.DecoderConfig())  # as for an included network without one
    assert of_run.resolve(run, "", {}, set()).beam_width == 0


def test_tuned_weights_belong_to_their_language_model(run, tmp_path):
    first = of_run.resolve(run, "", {}, set(), lambda line: None)
    decoder_config.save(run, dataclasses.replace(first, lm_weight=1.5, temperature=3.0, tuned="on dev"))
    other, copy = tmp_path / "other", tmp_path / "copy"
    for folder in (other, copy):
        shutil.copytree(run.folder / "lm", folder)
    with (other / "lm.bin").open("ab") as file:
        file.write(b"x")
    assert of_run.resolve(run, str(copy), {}, set()).lm_weight == 1.5
    assert of_run.resolve(run, "", {"beam_width": None}, set()).tuned == "on dev"
    assert of_run.resolve(run, "", {"word_bonus": 1.0}, set()).tuned == ""
    assert of_run.resolve(run, str(other), {}, set()) == decoder_config.DecoderConfig(lm=str(other))


def test_a_missing_language_model(run, tmp_path):
    with pytest.raises(UserError, match="nowhere is not a language model"):
        of_run.resolve(run, str(tmp_path / "nowhere"), {}, set())
    assert decoder_config.load(run) is None


def test_files_of_earlier_versions_still_load(run):
    of_run.resolve(run, "", {}, set(), lambda line: None)
    path = run.folder / decoder_config.FILE
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if line.split()[0] not in NEW))
    assert decoder_config.load(run).lm_weight == 0.8 and decoder_config.load(run).temperature == 1.0


def test_an_edited_file_is_refused_until_its_first_line_is_deleted(run):
    of_run.resolve(run, "", {}, set(), lambda line: None)
    path = run.folder / decoder_config.FILE
    written = path.read_text()
    for changed in (written.replace("0.8", "0.9"), written[:-9], written[:20], ""):
        path.write_text(changed)
        with pytest.raises(UserError, match=r"decoder\.toml: was changed; .* delete its first line"):
            decoder_config.load(run)
    path.write_text(written.replace("0.8", "0.9").partition("\n")[2])
    assert decoder_config.load(run).lm_weight == 0.9


def test_a_moved_run_keeps_its_language_model(run, tmp_path):
    of_run.resolve(run, "", {}, set(), lambda line: None)
    moved = Run(run.folder.rename(tmp_path / "elsewhere"))
    assert decoder_config.load(moved).lm == str(tmp_path / "elsewhere" / "lm")


def test_changed_or_missing_language_model(run):
    of_run.resolve(run, "", {}, set(), lambda line: None)
    binary = run.folder / "lm" / "lm.bin"
    binary.write_bytes(binary.read_bytes() + b"x")
    with pytest.raises(UserError, match="was changed since"):
        decoder_config.load(run)
    assert of_run.resolve(run, str(binary.parent), {}, set()).lm == str(binary.parent)
    binary.unlink()
    with pytest.raises(UserError, match="is gone"):
        decoder_config.load(run)
    (run.folder / "decoder.toml").write_text("beam_widht = 3\n")
    with pytest.raises(UserError, match="damaged"):
        decoder_config.load(run)


def test_training_data_are_decoded_greedily(run, tmp_path):
    rows = [{"audio_filepath": f"{name}.wav", "text": "der hund", "id": name} for name in ("a", "b")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reports = []
    found = of_run.resolve(run, "", {}, {"a", "b"}, reports.append, text=str(tmp_path / "m.jsonl"))
    assert found.beam_width == 0 and not (run.folder / "decoder.toml").exists()
    assert any("no usable sentence" in line and "decoding greedily" in line for line in reports)
