"""Real recordings in three layouts: a manifest, Common Voice's and Kaldi's."""

import itertools
import shutil

import pytest

from preparing.collect import CorpusSource, collect
from tests.conftest import ROOT
from w2l_jax.corpora import manifest
from w2l_jax.dataset.prepare import PrepareConfig, prepare

MANIFEST = ROOT.parent / "shared" / "speech" / "de_dev.jsonl"


def as_common_voice(utterances, folder):
    rows = [("client_id", "path", "sentence", "locale")]
    (folder / "de" / "clips").mkdir(parents=True)
    for utterance in utterances:
        shutil.copy(utterance.audio, folder / "de" / "clips")
        rows.append((utterance.speaker, utterance.audio.name, utterance.text, "de"))
    (folder / "de" / "train.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    return CorpusSource(corpus="commonvoice", source=str(folder))


def as_kaldi(utterances, folder):
    (folder / "train").mkdir(parents=True)
    for name, value in {
        "wav.scp": lambda u: u.audio.resolve(),
        "text": lambda u: u.text,
        "utt2spk": lambda u: u.speaker,
        "utt2lang": lambda u: "de",
    }.items():
        lines = [f"{u.id} {value(u)}\n" for u in sorted(utterances, key=lambda u: u.id)]
        (folder / "train" / name).write_text("".join(lines), "utf-8")
    return CorpusSource(corpus="kaldi", source=str(folder))


@pytest.mark.slow
@pytest.mark.skipif(not MANIFEST.is_file(), reason="needs ../shared/speech")
def test_the_same_speech_in_any_layout_is_the_same_dataset(tmp_path):
    utterances = manifest.read(MANIFEST)[:40]
    config = PrepareConfig(language="german", unknown_characters="drop_utterance")
    expected = prepare(utterances, tmp_path / "plain", config, workers=1)
    assert (len(expected), dict(expected.excluded)) == (38, {"unknown characters": 2})
    part = tmp_path / "part.jsonl"
    part.write_text("".join(itertools.islice(MANIFEST.open(encoding="utf-8"), 40)), "utf-8")
    (tmp_path / "de").symlink_to(MANIFEST.parent / "de")
    sources = [
        CorpusSource(corpus="manifest", source=str(part)),
        as_common_voice(utterances, tmp_path / "cv"),
        as_kaldi(utterances, tmp_path / "kaldi"),
    ]
    for source in sources:
        collection = collect([source])
        assert collection.language == "german"
        assert {split for split, found in collection.splits.items() if found} == {"train"}
        found = prepare(collection.utterances, tmp_path / "out" / source.corpus, config, workers=1)
        assert found.fingerprint == expected.fingerprint, source.corpus
        assert [e.transcript for e in found.entries] == [e.transcript for e in expected.entries]
