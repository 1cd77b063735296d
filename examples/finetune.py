"""Adapt the included English network to German in a loop of your own; eight layers stay frozen.

python examples/finetune.py german.jsonl german.safetensors     (JSON lines: audio_filepath, text)
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import optax

import w2l_jax
from w2l_jax import audio, features

BATCH, STEPS = 8, 200


def batch(data: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Draws utterances, padded to the longest of all; returns features, frames, labels and their lengths."""
    most = [max(len(arrays[i]) for arrays in data) for i in (0, 1)]
    chosen = [data[i] for i in rng.integers(len(data), size=BATCH)]
    features_BxTxM = np.stack([np.pad(f, ((0, most[0] - len(f)), (0, 0))) for f, _ in chosen])
    labels_BxL = np.stack([np.pad(ids, (0, most[1] - len(ids))) for _, ids in chosen])
    return features_BxTxM, np.array([len(f) for f, _ in chosen]), labels_BxL, np.array([len(ids) for _, ids in chosen])


def main(manifest: str, out: str) -> None:
    if Path(out).exists():
        sys.exit(f"{out} exists; name another file")
    english, german = w2l_jax.load("english"), w2l_jax.preset("german")
    rows = [json.loads(line) for line in Path(manifest).read_text(encoding="utf-8").splitlines()]
    arrays = [features.compute(audio.load(Path(manifest).parent / row["audio_filepath"])) for row in rows]
    data = list(zip(arrays, [german.encode(w2l_jax.normalize(row["text"], german)) for row in rows], strict=True))
    params, _ = w2l_jax.carry_output(english.params, english.alphabet, german)
    optimizer = w2l_jax.freeze(optax.adam(1e-3), 8)

    @jax.jit
    def update(params, state, features_BxTxM, frames_B, labels_BxL, lengths_B):
        def loss(params):
            logits_BxSxV = w2l_jax.apply(params, features_BxTxM, frames_B, english.model)
            return w2l_jax.ctc_loss(logits_BxSxV, w2l_jax.output_frames(frames_B), labels_BxL, lengths_B).mean()

        value, grads = jax.value_and_grad(loss)(params)  # XLA drops what only the frozen layers would need
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, rng = optimizer.init(params), np.random.default_rng(0)
    for step in range(1, STEPS + 1):
        params, state, loss = update(params, state, *batch(data, rng))
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.1f}")
    own = {"params": jax.device_get(params), "alphabet": german, "language": "german", "step": STEPS, "card": ""}
    dataclasses.replace(english, **own).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
