"""The training loop: steps, evaluations, checkpoints, and an end that loses nothing."""

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from w2l_jax import model
from w2l_jax.checkpoint import write_atomically
from w2l_jax.dataset.batches import Batch, empty_batch, prefetch
from w2l_jax.errors import UserError
from w2l_jax.training.augment import change_speed, speed_factor
from w2l_jax.training.certificate import CompiledStep, certify
from w2l_jax.training.evaluation import evaluate
from w2l_jax.training.job import Job
from w2l_jax.training.log import MetricsLog, Report
from w2l_jax.training.profile import Profiler, traced_updates
from w2l_jax.training.step import learning_rate_schedule, make_step, to_resume


@dataclasses.dataclass
class Position:
    """Where a run stands; stored with every checkpoint. `seconds` is training time without
    evaluation, checkpoints and compilation."""

    step: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_ler: float | None = None
    best_loss: float | None = None
    without_gain: int = 0


@dataclasses.dataclass(frozen=True)
class Result:
    """How training ended: where, why, and the last evaluation's numbers (None without dev data)."""

    position: Position
    reason: str
    evaluation: dict[str, Any] | None


Progress = Callable[[Position, dict[str, float]], None]


def train(job: Job, report: Report = print, progress: Progress | None = None) -> Result:
    """Runs a job to its end: `steps`, `max_hours`, patience, or a signal (SIGINT, SIGTERM: checkpoint, then stop).

    `report` takes lines for the user; `progress` is called at every logged step. An update whose gradient is not
    finite is left out; ten in a row raise UserError, and the checkpoints before that are kept.
    """
    return _Trainer(job, report, progress or (lambda *_: None)).run()


def batches(job: Job, first: int) -> Iterator[Batch]:
    """The batches of the steps from `first` (from 0) to the last: a function of the seed and the step alone."""
    options = job.options
    for step in range(first, options.steps):
        transform = None
        if options.augment.speed:

            def transform(features_TxM, index, step=step):
                return change_speed(features_TxM, speed_factor(options.augment, options.seed, step, index))

        yield job.train.batch(job.order.batch(step), options.batch_size, transform)


_MOST_SKIPPED = 10


class _Trainer:
    def __init__(self, job: Job, report: Report, progress: Progress):
        self.job, self.options, self.report, self.progress = job, job.options, report, progress
        self.position = Position(**job.meta)
        self.state = job.state
        self.evaluation: dict[str, Any] | None = None
        self.rate = learning_rate_schedule(job.options)
        self.pending: list[tuple[int, int, dict[str, jax.Array]]] = []
        self.saved = self.position.step
        self.skipped = 0  # updates in a row

    def run(self) -> Result:
        if self.position.step >= self.options.steps:
            reason = f"trained for {self.position.step} steps already; raise --steps to go on"
            return Result(self.position, reason, None)
        self.log = MetricsLog(self.job.run.folder, self.position.step)
        traced = traced_updates(self.options.profile, self.position.step)
        self.profiler = Profiler(self.job.run.folder / "profile", traced, self.report)
        stream = prefetch(batches(self.job, self.position.step), jax.device_put)
        try:
            with _Signals() as signals:
                return Result(self.position, self._steps(stream, signals), self.evaluation)
        finally:
            stream.close()
            self.profiler.close()
            self.log.close()

    def _steps(self, stream: Iterator[Batch], signals: "_Signals") -> str:
        """Runs steps until there is a reason to stop, which is returned."""
        step_of = CompiledStep(make_step(self.job.optimizer, self.job.step_config))
        self._certify(step_of)
        step_of.take_compile_seconds()
        started = time.perf_counter()
        for batch in stream:
            self.position.step += 1
            self.state, scalars = self.profiler.run(self.position.step, step_of, self.state, batch)
            self.pending.append((self.position.step, batch.features_BxTxM.shape[1], scalars))
            logs, evaluates, saves = self._due(self.position.step)
            if not (logs or evaluates or saves or signals.received):
                continue
            jax.block_until_ready(self.state.step)
            self.position.seconds += time.perf_counter() - started - step_of.take_compile_seconds()
            self.progress(self.position, self._flush())
            reason = self._reason_to_stop(signals)
            if self.job.dev and (evaluates or reason) and not signals.received:
                self._evaluate()
                reason = self._reason_to_stop(signals)
            if saves or evaluates or reason:
                self._save(finished=bool(reason) and not signals.received)
            if reason:
                return reason
            started = time.perf_counter()
        raise AssertionError("the stream of batches ends with the last step, which is a reason to stop")

    def _due(self, step: int) -> tuple[bool, bool, bool]:
        """Whether to log, to evaluate and to save after `step`."""
        options = self.options
        evaluates = step % options.eval_every == 0
        saves = step % options.checkpoint_every == 0 or step in options.kept_steps
        return step % options.log_every == 0 or step == options.steps, evaluates, saves

    def _reason_to_stop(self, signals: "_Signals") -> str:
        options, position = self.options, self.position
        if position.step >= options.steps:
            return f"{options.steps} steps are done"
        if signals.received:
            return f"stopped by {signals.received}; the same command with --resume goes on"
        if options.max_hours and position.seconds >= options.max_hours * 3600:
            return f"{options.max_hours} hours of training are over"
        if options.patience and position.without_gain >= options.patience:
            return f"no better dev LER in {options.patience} evaluations"
        return ""

    def _flush(self) -> dict[str, float]:
        """Writes the steps since the last time and returns the last one's numbers."""
        values: dict[str, float] = {}
        for (step, frames, _), scalars in zip(self.pending, jax.device_get([p[2] for p in self.pending]), strict=True):
            values = {name: float(value) for name, value in scalars.items()}
            record = {"epoch": self.job.order.epoch(step - 1), "seconds": round(self.position.seconds, 3)}
            extra = {"padded_frames": frames, "learning_rate": float(self.rate(step - 1))}
            self.log.write("train", step, {**record, **values, **extra})
            self.skipped = self.skipped + 1 if values["skipped"] else 0
            if self.skipped == 1:
                self.report(f"step {step}: the gradient is not finite (loss {values['loss']:.3g}), update left out")
            if self.skipped == _MOST_SKIPPED:
                raise UserError(
                    f"{self.job.run.folder}: {_MOST_SKIPPED} updates in a row, up to step {step}, had a gradient that "
                    "is not finite; lower --learning_rate or set --clip_norm in a new run (the checkpoint of step "
                    f"{self.saved} is kept)"
                )
        self.pending.clear()
        return values

    def _evaluate(self) -> None:
        position, job = self.position, self.job
        params, size, dtype = self.state.best_params, self.options.batch_size, job.step_config.dtype
        result = evaluate(params, job.dev, job.alphabet, self.options.model, batch_size=size, dtype=dtype)
        values = {"loss": result.loss, **dataclasses.asdict(result.rates), "infeasible": result.infeasible}
        self.evaluation = {**values, "seconds": round(position.seconds, 3)}
        self.log.write("dev", position.step, {**self.evaluation, "samples": result.samples})
        found = (result.rates.ler, result.loss)  # the loss decides among equals, such as 100 % at the start
        better = position.best_step is None or found < (position.best_ler, position.best_loss)
        if better:
            position.best_step, (position.best_ler, position.best_loss) = position.step, found
        position.without_gain = 0 if better else position.without_gain + 1
        rates = f"loss {result.loss:.2f}, LER {result.rates.ler:.2%}, WER {result.rates.wer:.2%}"
        self.report(f"step {position.step}: dev {rates}{' (best so far)' if better else ''}")
        for sample in result.samples:
            self.report(f"    expected:  {sample['expected']}\n    predicted: {sample['predicted']}")

    def _save(self, finished: bool) -> None:
        self.log.flush()
        position, best = self.position, self.position.best_step
        keep, meta = self.options.kept_steps, dataclasses.asdict(position)
        params, resumable = self.state.best_params, to_resume(self.state, self.job.frozen)
        self.job.run.save(position.step, params, resumable, meta, best=best, keep=keep, finished=finished)
        self.saved = position.step

    def _certify(self, step_of: CompiledStep) -> None:
        """Compiles the step for the largest bucket, where it costs most, and writes and prints what it costs."""
        job, bucket, rows = self.job, self.job.train.buckets[-1], self.options.batch_size
        batch = empty_batch(rows, bucket, self.options.features.mels)
        table = model.layers(self.options.model, job.alphabet.size, self.options.features.mels)
        certificate = certify(step_of.compiled(self.state, batch), self.state, table, (rows, bucket.frames), job.frozen)
        write_atomically(job.run.folder / "certificate.json", certificate.to_json())
        self.report(certificate.text())


class _Signals:
    """Remembers SIGINT and SIGTERM instead of dying of them, so that the loop can save first."""

    def __init__(self):
        self.received = ""
        self._before: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number, _frame):
        if self.received:  # asked twice: at once
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
