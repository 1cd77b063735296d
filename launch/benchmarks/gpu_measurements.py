"""The parts of `bench_gpu`, measured in a separate process, each line sent at once."""

import concurrent.futures
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import BenchmarkOptions, bench_loop, bench_losses, bench_memory, bench_step
from benchmarks.bench_input import write_corpus
from benchmarks.bench_memory import MIB, OUTPUTS, Variant
from benchmarks.gpu_bench import ALL, Bench
from w2l_jax import losses, model
from w2l_jax.dataset.batches import AHEAD
from w2l_jax.errors import UserError
from w2l_jax.training import feed
from w2l_jax.training.loop import update_of
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import make_step
from w2l_jax.workers import usable_cores

_KERNELS = 15
_TRACED = 3  # updates


def measure(options: BenchmarkOptions, folder: str, seconds: float, connection: Connection) -> None:
    """Sends (part, row) of each part in turn; a failing part reports it, and the next one begins."""
    bench = Bench(options, Path(folder), time.monotonic() + seconds, connection)
    if not options.small:  # a fresh cache: compilation times are real, and training reuses these programs
        jax.config.update("jax_compilation_cache_dir", f"{folder}/xla")
    for part in (ceilings, ctc, updates, pytorch, inputs, training, kernels, compilation):
        try:
            part(bench)
        except Exception as error:  # such as memory: the other parts may have enough of it
            first = (str(error).splitlines() or [""])[0]
            bench.say("failed", part=part.__name__, error=f"{type(error).__name__}: {first[:300]}")
    connection.close()


def ceilings(bench: Bench) -> None:
    """A large product in each precision, a copy within the device, and one from the host."""
    bench.say("machine", device=jax.devices()[0].device_kind, count=jax.device_count(), jax=jax.__version__)
    side = 256 if bench.options.small else 8192
    for dtype, precision in (("bfloat16", "default"), ("float32", "default"), ("float32", "highest")):
        x = jnp.ones((side, side), dtype)
        product = jax.jit(lambda a, b, precision=precision: jnp.matmul(a, b, precision=precision))
        seconds = bench.seconds(lambda product=product, x=x: product(x, x))
        bench.products.setdefault(dtype, 2 * side**3 / seconds)
        what = f"product {side}³ {dtype}" + (", highest precision" if precision == "highest" else "")
        bench.say("ceilings", what=what, ms=1e3 * seconds, rate=2e-12 * side**3 / seconds, unit="TFLOP/s")
    x = jnp.ones(2**20 if bench.options.small else 2**28, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    seconds = bench.seconds(lambda: add(x))
    bench.say("ceilings", what="copy", ms=1e3 * seconds, rate=2e-9 * x.nbytes / seconds, unit="GB/s")
    host = np.ones(x.size // 32, np.float32)
    seconds = bench.seconds(lambda: jax.device_put(host))
    bench.say("ceilings", what="copy from the host", ms=1e3 * seconds, rate=1e-9 * host.nbytes / seconds, unit="GB/s")


def ctc(bench: Bench) -> None:
    """Loss and gradient: ours, optax's and PyTorch's."""
    logits, *target = bench_losses.case(bench.options)
    shape = " × ".join(map(str, logits.shape))
    for name, loss in (("w2l_jax", losses.ctc_loss), ("optax", _optax_ctc)):
        gradient = jax.jit(jax.value_and_grad(lambda x, *target, loss=loss: loss(x, *target).sum()))
        started = time.perf_counter()
        compiled = gradient.lower(logits, *target).compile()
        took = time.perf_counter() - started
        seconds = bench.seconds(lambda compiled=compiled: compiled(logits, *target))
        memory = compiled.memory_analysis().temp_size_in_bytes / MIB
        row = {"ms": 1e3 * seconds, "temporary MiB": memory, "seconds to compile": took}
        bench.say("CTC and its gradient", library=name, logits=shape, **row)
    if peers := _peers():
        seconds = bench.seconds(peers.ctc_gradient(logits, *target), peers.wait)
        bench.say("CTC and its gradient", library="PyTorch", logits=shape, ms=1e3 * seconds)


def _optax_ctc(logits_BxSxV: jax.Array, frames_B: jax.Array, labels_BxL: jax.Array, lengths_B: jax.Array) -> jax.Array:
    outside_BxS = jnp.arange(logits_BxSxV.shape[1]) >= frames_B[:, None]
    outside_BxL = jnp.arange(labels_BxL.shape[1]) >= lengths_B[:, None]
    return optax.ctc_loss(logits_BxSxV, outside_BxS.astype(float), labels_BxL, outside_BxL.astype(float))


def updates(bench: Bench) -> None:
    """An update at k = 0, 8, 10 in bfloat16 and float32, all compiled side by side, and what training will need."""
    manifest = write_corpus(bench.folder, bench.options)
    for name in bench_loop.AUGMENTATIONS:
        count = 10 if bench.options.small else 200
        bench.jobs[name] = bench_loop.training_job(manifest, bench.options, name, count, "bfloat16")
    works = {_name(v): lambda v=v: bench_memory.compiled(bench.options, v) for v in bench.variants}
    for name, job in bench.jobs.items():
        works[f"training, {name}"] = lambda job=job: update_of(job).compiled(job.state, feed.shapes(job)[0])
    names = dict(zip(works, bench.variants, strict=False))
    took = {}
    threads = concurrent.futures.ThreadPoolExecutor(usable_cores())
    running = {threads.submit(_clocked, work): name for name, work in works.items()}
    try:
        for done in concurrent.futures.as_completed(running, timeout=max(0.75 * bench.left(), 1.0)):
            name, (result, seconds) = running[done], done.result()
            took[name] = seconds
            bench.say("compilation, all at once", what=name, seconds=seconds)
            if name in names:
                bench.updates[names[name]] = result
    except TimeoutError:
        threads.shutdown(wait=False, cancel_futures=True)
        bench.say("failed", part="updates", error=f"{len(works) - len(took)} of {len(works)} did not compile in time")
    batch = bench_step.random_batch(bench.options)
    for name, variant in names.items():
        if variant in bench.updates:
            executable, cost = bench.updates[variant]
            seconds = bench.seconds(_update(bench, variant, executable, batch))
            share = cost.flops / seconds / bench.products[variant.dtype]
            row = {"ms": 1e3 * seconds, "TFLOP/s": 1e-12 * cost.flops / seconds, "of the product's": f"{share:.0%}"}
            row |= {"temporary MiB": cost.temporary_bytes / MIB, "seconds to compile": took[name]}
            layer_9 = {"layer 9": "unfolded" if variant.unfold else "convolution"}
            bench.say("an update", k=variant.frozen, dtype=variant.dtype, **layer_9, **row)


def _name(variant: Variant) -> str:
    return f"k = {variant.frozen}, {variant.dtype}" + (", layer 9 unfolded" if variant.unfold else "")


def _clocked(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def _update(bench: Bench, variant: Variant, executable: Any, batch: Any) -> Callable[[], Any]:
    state = bench_step.fresh_state(bench.options, variant)

    def update() -> Any:
        nonlocal state
        state, metrics = executable(state, batch)
        return state, metrics

    return update


def pytorch(bench: Bench) -> None:
    """The same updates in PyTorch, eager."""
    if not (peers := _peers()):
        bench.say("skipped", part="PyTorch", reason="it is not installed, or has no GPU")
        return
    config = bench.options.model
    params = jax.device_get(model.init(jax.random.key(0), config, OUTPUTS))
    batch = jax.device_get(bench_step.random_batch(bench.options))
    for variant in (variant for variant in bench.variants if not variant.unfold or bench.options.small):
        step = peers.torch_step(params, config, variant.frozen, batch, bfloat16=variant.dtype == "bfloat16")
        seconds = bench.seconds(step, peers.wait)
        bench.say("an update in PyTorch", k=variant.frozen, dtype=variant.dtype, ms=1e3 * seconds)


def _peers() -> Any:
    try:
        from benchmarks import bench_peers

        bench_peers.torch_device()
    except UserError:
        return None
    return bench_peers


def inputs(bench: Bench) -> None:
    """Batches ready for the step: features from the host, and resident features."""
    count = 8 if bench.options.small else 100
    for name, job in bench.jobs.items():
        for resident in ("off", "on"):
            memory = dataclasses.replace(job.options.memory, resident=resident)
            variant = dataclasses.replace(job, options=dataclasses.replace(job.options, memory=memory))
            with contextlib.closing(feed.stream(variant, 0, lambda line: None)) as stream:
                for _ in range(AHEAD + 2):  # compiled, and what was fetched before is used up
                    next(stream)
                started = time.perf_counter()
                for _ in range(count):
                    jax.block_until_ready(next(stream))
                rate = count / (time.perf_counter() - started)
            bench.say("input", features=name, resident=resident, **{"batches per second": rate})


def training(bench: Bench) -> None:
    """Training end to end, with files and log, compared with its step."""
    for name, job in bench.jobs.items():
        bench.say("training", **dict(zip(bench_loop.COLUMNS, (name, *bench_loop.rates(job)), strict=True)))


def kernels(bench: Bench) -> None:
    """The most expensive kernels of an update of every layer in bfloat16."""
    update = _update(bench, ALL, bench.updates[ALL][0], bench_step.random_batch(bench.options))
    jax.block_until_ready(update())
    with jax.profiler.trace(str(bench.folder / "trace")):
        for _ in range(_TRACED):
            done = update()
        jax.block_until_ready(done)
    took, calls = kernel_times(next((bench.folder / "trace").rglob("*.xplane.pb")))
    total = sum(took.values())
    for name, seconds in took.most_common(_KERNELS):
        row = {"ms per update": 1e3 * seconds / _TRACED, "share": f"{seconds / total:.1%}"}
        bench.say("kernels", kernel=name[:80], **row, **{"calls an update": calls[name] / _TRACED})
    last = "all" if took else "none was traced: on a CPU that needs a newer jaxlib"
    bench.say("kernels", kernel=last, **{"ms per update": 1e3 * total / _TRACED, "share": "100%"})


def kernel_times(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Seconds and calls by kernel in a trace: those on a GPU's streams, or what a CPU runs of a program."""
    took: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    gpu = any(plane.name.startswith("/device:GPU") for plane in planes)
    for plane in planes:
        for line in plane.lines:
            for event in line.events:
                if gpu:
                    counts = plane.name.startswith("/device:GPU") and line.name.startswith("Stream")
                else:
                    counts = any(name == "hlo_op" for name, _ in event.stats)
                if counts:
                    took[event.name] += event.duration_ns / 1e9
                    calls[event.name] += 1
    return took, calls


def compilation(bench: Bench) -> None:
    """The time and the gain of choosing algorithms during compilation (on a GPU)."""
    if jax.default_backend() != "gpu":
        return
    batch = bench_step.random_batch(bench.options)
    for variant in (Variant(8, "bfloat16", False), ALL):
        config = bench_memory.step_config(bench.options, variant)
        step = make_step(make_optimizer(TrainOptions(), config.frozen), config)
        lowered = step.lower(bench_step.fresh_state(bench.options, variant), batch)
        executable, took = _clocked(lambda lowered=lowered: lowered.compile({"xla_gpu_autotune_level": 0}))
        seconds = bench.seconds(_update(bench, variant, executable, batch))
        what = f"{_name(variant)}, first algorithm"
        bench.say("compilation, alone", what=what, **{"seconds to compile": took, "ms per update": 1e3 * seconds})
