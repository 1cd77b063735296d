"""The training loop: steps, evaluations, checkpoints, and clean stops."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jax

from w2l_jax import model
from w2l_jax.dataset.batches import Batch, Source
from w2l_jax.errors import UserError
from w2l_jax.files import read, write_atomically
from w2l_jax.model import Params
from w2l_jax.reporting import Report
from w2l_jax.training import feed
from w2l_jax.training.certificate import CompiledStep, certify
from w2l_jax.training.devices import Devices
from w2l_jax.training.evaluation import Evaluation, evaluate
from w2l_jax.training.frozen import verify
from w2l_jax.training.job import Job, unfreeze
from w2l_jax.training.log import MetricsLog
from w2l_jax.training.optimizer import applied_rate
from w2l_jax.training.position import Position
from w2l_jax.training.profile import Profiler, traced_updates
from w2l_jax.training.saving import Saver
from w2l_jax.training.signals import Signals
from w2l_jax.training.step import make_step, microbatches, to_resume


@dataclasses.dataclass(frozen=True)
class Result:
    """How training ended: where, why, and the last evaluation's numbers (None without dev data)."""

    position: Position
    reason: str
    evaluation: dict[str, Any] | None
    signal: str = ""
    """The signal that stopped it before its end, such as SIGTERM."""


Show = Callable[[int, dict[str, float]], None]


def train(job: Job, report: Report = print, progress: Show | None = None) -> Result:
    """Runs a job to its end: `steps`, `max_hours`, patience, or a signal (SIGINT, SIGTERM: checkpoint, then stop).

    Before the first update there is nothing to store: a signal raises KeyboardInterrupt, even during compilation.
    `report` takes lines for the user; `progress` a logged step and its numbers. An update whose gradient is not finite
    is skipped; ten in a row raise UserError, and earlier checkpoints are kept.
    """
    return _Trainer(job, report, progress or (lambda *_: None)).run()


def update_of(job: Job) -> CompiledStep:
    """The update of a job, `(state, batch) → (state, metrics)`."""
    return CompiledStep(make_step(job.optimizer, job.step_config, functools.partial(applied_rate, job.options)))


_MOST_SKIPPED = 10
# Updates queued on the device: the running one and the next.
_IN_FLIGHT = 2


class _Trainer:
    def __init__(self, job: Job, report: Report, progress: Show):
        self.job, self.options, self.report, self.progress = job, job.options, report, progress
        self.devices = job.devices
        self.position = Position(**job.meta)
        self.state = job.state
        self.evaluation: dict[str, Any] | None = None
        self.pending: list[tuple[int, int, dict[str, jax.Array]]] = []
        self.started = 0.0  # start of the time not yet in `position.seconds`
        self.saved = self.position.step
        self.skipped = 0  # updates in a row

    def run(self) -> Result:
        run, step, profile = self.job.run, self.position.step, self.options.log.profile
        with self.job.lock:
            if step >= self.options.steps:
                return Result(self.position, f"trained for {step} steps already; raise steps to resume", None)
            self.log = MetricsLog(run.folder if self.devices.first else None, step)
            traced = traced_updates(profile if self.devices.first else "", step)
            self.profiler = Profiler(run.folder / "profile", traced, self.report)
            stream = feed.stream(self.job, step, self.report)
            with (
                closing(self.log),
                closing(self.profiler),
                closing(stream),
                Signals() as signals,
                Saver(run) as self.saver,
            ):
                reason, signal = self._steps(stream, signals)
                return Result(self.position, reason, self.evaluation, signal)

    def _steps(self, stream: Iterator[Batch], signals: Signals) -> tuple[str, str]:
        """Runs steps until there is a reason to stop; returns it, and the signal if it is one."""
        step_of = None
        for batch in stream:
            if step_of is None or self._unfreezes:
                signals.at_once = step_of is None and self.devices.is_single_process  # everything trained is stored
                step_of = self._begin_phase()
                if signals.at_once and signals.received:  # a callback of JAX's may have caught the exception
                    raise KeyboardInterrupt
                signals.at_once = False
                self.started = time.perf_counter()
            if len(self.pending) >= _IN_FLIGHT:  # a dispatched update holds its batch in device memory
                jax.block_until_ready(self.pending[-_IN_FLIGHT][-1])
            self.position.step += 1
            self.state, scalars = self.profiler.run(self.position.step, step_of, self.state, batch)
            frames = batch.features_BxTxM.shape[1] * self.job.train.dataset.record.stride
            self.pending.append((self.position.step, frames, scalars))
            logs, evaluates, saves = self._due(self.position.step)
            # Several processes must stop at the same step, so they agree here, where all pass.
            if not (logs or evaluates or saves or (signals.received and self.devices.is_single_process)):
                continue
            self._catch_up(step_of, behind=1)
            asked, reason = self._reason_to_stop(signals)
            if not (saves or evaluates or reason or self._unfreezes):
                continue
            # Training waits here for this update's weights; files are written during the next updates.
            self._catch_up(step_of)
            self._verify_frozen()
            if (evaluates or reason) and not asked:
                self._evaluate()
                asked, reason = self._reason_to_stop(signals)
            if (saves or evaluates or reason) and self.devices.first:
                self._save(finished=bool(reason) and not asked)
            if reason:
                return reason, asked
            self.started = time.perf_counter()
        raise AssertionError("the stream of batches ends with the last step")

    def _due(self, step: int) -> tuple[bool, bool, bool]:
        """Whether to log, to evaluate and to save after `step`."""
        options = self.options
        evaluates = step % options.log.eval_every == 0
        saves = step % options.log.checkpoint_every == 0 or step in options.log.kept_steps
        # Also log before layers are unfrozen, since compiling for them is not training time.
        return step % options.log.every == 0 or step in (options.steps, options.freeze.unfreeze_after), evaluates, saves

    def _reason_to_stop(self, signals: Signals) -> tuple[str, str]:
        """The signal that asks to stop, and the reason to stop, in any process; empty if none."""
        asked = self.devices.consensus(signals.received)
        return asked, self.devices.consensus(self._own_reason_to_stop(asked))

    def _own_reason_to_stop(self, asked: str) -> str:
        options, position = self.options, self.position
        if position.step >= options.steps:
            return f"{options.steps} steps are done"
        if asked:
            return f"stopped by {asked} after step {position.step}"
        if options.stop.max_hours and position.seconds >= options.stop.max_hours * 3600:
            return f"{options.stop.max_hours} hours of training are over"
        if options.stop.patience and position.without_gain >= options.stop.patience:
            return f"no better dev LER in {options.stop.patience} evaluations"
        return ""

    def _catch_up(self, step_of: CompiledStep, behind: int = 0) -> None:
        """Logs the updates so far except the last `behind`, which the device may still be running."""
        self.saver.check()
        due = self.pending[: len(self.pending) - behind]
        del self.pending[: len(due)]
        fetched = jax.device_get([scalars for _, _, scalars in due])
        now = time.perf_counter()
        self.position.seconds += now - self.started - step_of.take_compile_seconds()
        self.started = now
        for (step, frames, _), scalars in zip(due, fetched, strict=True):
            values = {name: float(value) for name, value in scalars.items()}
            record = {"epoch": self.job.order.epoch(step - 1), "seconds": round(self.position.seconds, 3)}
            self.log.write("train", step, {**record, **values, "padded_frames": frames})
            self.skipped = self.skipped + 1 if values["skipped"] else 0
            if self.skipped == 1:
                self.report(f"step {step}: the gradient is not finite (loss {values['loss']:.3g}), update skipped")
            if self.skipped == _MOST_SKIPPED:
                raise UserError(
                    f"{self.job.run.folder}: {_MOST_SKIPPED} updates in a row, up to step {step}, had a gradient that "
                    "is not finite; lower learning_rate or set optimizer.clip_norm in a new run (the checkpoint of "
                    f"step {self.saved} is kept)"
                )
        if due:
            self.progress(step, values)

    def _evaluate(self) -> None:
        """Evaluates the weights on the dev data, to find the best, and on the old language's."""
        on, params = self.devices.local(self.state.best_params)
        for kind, source in (("dev", self.job.dev), ("old_dev", self.job.old_dev)):
            if not source:
                continue
            measured = self._measure(params, source, on)
            values = {"loss": measured.loss, **dataclasses.asdict(measured.rates), "infeasible": measured.infeasible}
            values["seconds"] = round(self.position.seconds, 3)
            self.log.write(kind, self.position.step, {**values, "samples": measured.samples})
            rates = f"loss {measured.loss:.2f}, LER {measured.rates.ler:.2%}, WER {measured.rates.wer:.2%}"
            best = kind == "dev" and self.position.is_best(measured.rates.ler, measured.loss)
            self.report(f"step {self.position.step}: {kind} {rates}{' (best so far)' if best else ''}")
            if kind == "dev":
                self.evaluation = values
                for sample in measured.samples:
                    self.report(f"    expected:  {sample['expected']}\n    predicted: {sample['predicted']}")

    def _measure(self, params: Params, source: Source, on: Devices) -> Evaluation:
        # An evaluation has the same memory limit as an update.
        rows, limit = self.options.batch_size, self.options.memory.max_microbatch_frames
        rows //= microbatches(rows // on.count, source.buckets[-1].frames, limit)
        dtype, network = self.job.step_config.dtype, self.options.model
        return evaluate(params, source, self.job.alphabet, network, batch_size=rows, dtype=dtype, place=on.place)

    def _verify_frozen(self) -> None:
        if self.options.freeze.verify and self.job.frozen:
            step, layers = self.position.step, sorted(self.job.frozen)
            arrays = verify(self.job.run.folder, self.state.best_params, self.job.frozen)
            self.log.write("frozen", step, {"layers": layers, "arrays": arrays, "unchanged": True})
            self.report(f"step {step}: all {arrays} frozen arrays are bit-identical to the start of training")

    def _save(self, finished: bool) -> None:
        self.log.flush()
        position, best = self.position, self.position.best_step
        keep, meta = self.options.log.kept_steps, dataclasses.asdict(position)
        params, resumable = self.state.best_params, to_resume(self.state, self.job.frozen)
        self.saver.save(position.step, params, resumable, meta, best=best, keep=keep, finished=finished)
        self.saved = position.step

    @property
    def _unfreezes(self) -> bool:
        """Whether the next update is the first to train every layer."""
        return bool(self.job.frozen) and 0 < self.options.freeze.unfreeze_after == self.position.step

    def _begin_phase(self) -> CompiledStep:
        """Compiles the step for every bucket and certifies it for the largest."""
        if self._unfreezes:
            self.job, state = unfreeze(self.job, self.state)
            self.state = self.devices.replicate(state)
            self.report(f"step {self.position.step}: all layers are trained from here")
        step_of = update_of(self.job)
        for done, compiled in enumerate(step_of.prepare(self.state, feed.shapes(self.job), self.report)):
            if done == 0:  # the largest, the most expensive
                self._certify(compiled)
        return step_of

    def _certify(self, compiled: Any) -> None:
        """Writes and prints the certificate of the largest bucket."""
        job, shape = self.job, (self.options.batch_size, self.job.train.buckets[-1].frames)
        table = model.layers(self.options.model, job.alphabet.size, self.options.features.mels)
        certificate = certify(compiled, self.state, table, shape, job.step_config)
        path = job.run.folder / "certificate.json"
        if self.devices.first:
            earlier = read(path, lambda text: dict(json.loads(text))) if job.late and path.is_file() else {}
            write_atomically(path, certificate.to_json(earlier))
        self.report(certificate.text())
