"""A training run compiles once for each padded shape, and never again."""

import jax
import pytest

from tests.training_options import train_options
from w2l_jax import training
from w2l_jax.model import ModelConfig
from w2l_jax.training.feed import stream
from w2l_jax.training.options import AugmentOptions, DataOptions

COMPILED: list[str] = []


@pytest.fixture(scope="module")
def compiled():
    """The names of the programs compiled so far, those read from the persistent cache included."""

    def listen(event, _seconds, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            COMPILED.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    return COMPILED


@pytest.mark.parametrize("buckets", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_compilation_for_each_bucket(tones, cache, tmp_path, compiled, buckets):
    data = DataOptions(
        train=str(tones / "train.jsonl"), dev=str(tones / "dev.jsonl"), cache=str(cache), buckets=buckets, workers=1
    )
    options = train_options(
        run=str(tmp_path / "run"), steps=24, batch_size=4, eval_every=8, checkpoint_every=8, every=1, data=data,
        model=ModelConfig(width=8, top_width=8 + buckets), augment=AugmentOptions(time_masks=1),
    )  # fmt: skip
    job = training.create(options, lambda line: None)
    shapes = [batch.features_BxTxM.shape for batch in stream(job, 0)]
    groups = job.dev.in_order_of_length(options.batch_size)
    dev_shapes = {job.dev.shape(indices, job.dev.frames_N[indices]) for indices in groups}
    assert len(set(shapes)) == len(job.train.buckets) == buckets
    # After the first evaluation that follows the last new shape, nothing is new.
    settled = max(8, -(-max(shapes.index(shape) + 1 for shape in shapes) // 8) * 8)
    assert settled < options.steps

    compiled.clear()
    by_step = {}
    training.train(job, lambda line: None, lambda step, _: by_step.update({step: len(compiled)}))
    assert compiled.count("jit(step)") == buckets
    assert compiled.count("jit(forward)") == len(dev_shapes)
    assert by_step[settled + 2] == by_step[options.steps], compiled[by_step[settled + 2] :]
