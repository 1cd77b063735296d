"""Worker processes that never import JAX.

Spawned, not forked: forking a process that runs JAX can deadlock.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """How many processors this process may use: its affinity, at most its container's quota."""
    # macOS has no affinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = _CGROUP.read_text().split()  # "max 100000" without a limit
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


class WorkerDiedError(Exception):
    """A worker process was killed, most likely for lack of memory."""


class WorkerPool:
    """A context manager with up to `size` processes that apply `work` (which is pickled) to tasks.

    Each has its own pipe, so each side notices at once when the other dies. (Workers of concurrent.futures share one:
    one killed within a message leaves it locked, and all wait forever; and workers outlive a killed parent.)
    """

    def __init__(self, work: Callable[[Any], Any], size: int):
        self._work, self._size = work, size
        self._processes: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_):
        for pipe, process in self._processes.items():
            process.terminate()
            process.join()
            pipe.close()
        self._processes.clear()

    def in_order(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """Yields the result of every task in order, reading at most three tasks per worker ahead.

        An exception of `work` is raised here; WorkerDiedError if a process was killed.
        """
        busy: dict[Connection, int] = {}
        try:
            yield from self._in_order(iter(tasks), busy)
        finally:  # if stopped half-way, no answer may be left for the next tasks
            for pipe in busy:
                with contextlib.suppress(WorkerDiedError):
                    _receive(pipe)

    def _in_order(self, tasks: Iterator[Any], busy: dict[Connection, int]) -> Iterator[Any]:
        free = list(self._processes)
        done: dict[int, Any] = {}
        sent = yielded = 0
        end = object()
        task = next(tasks, end)
        while task is not end or busy or done:
            # One task per worker, so that the two sides never both wait to send.
            while task is not end and len(busy) < self._size and sent < yielded + 3 * self._size:
                pipe = free.pop() if free else self._start()
                with _noticing_death():
                    pipe.send(task)
                busy[pipe], sent = sent, sent + 1
                task = next(tasks, end)
            if yielded in done:
                result, error = done.pop(yielded)
                yielded += 1
                if error is not None:
                    raise error
                yield result
                continue
            for pipe in multiprocessing.connection.wait(list(busy)):
                number = busy.pop(pipe)
                done[number] = _receive(pipe)
                free.append(pipe)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        with _plain_children():
            process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
            process.start()
        theirs.close()
        self._processes[ours] = process
        return ours


def _receive(pipe: Connection) -> Any:
    with _noticing_death():
        return pipe.recv()


@contextlib.contextmanager
def _noticing_death() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):  # before or within a message
        raise WorkerDiedError from None


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    while True:
        try:
            task = pipe.recv()
        except EOFError:  # the parent has ended
            return
        try:
            answer = work(task), None
        except Exception as error:  # raised where the result is used
            answer = None, error
        try:
            pipe.send(answer)
        except ConnectionError:
            return


# Linear algebra uses one thread: there is too little of it to share. And glibc would return each recording's arrays to
# the system and request them again, which took a tenth to a quarter of the time.
_CHILD_ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**25)),
}


@contextlib.contextmanager
def _plain_children() -> Iterator[None]:
    """Processes spawned in this block do not import the caller's script, which may import JAX."""
    main, saved = sys.modules["__main__"], {name: os.environ.get(name) for name in _CHILD_ENVIRONMENT}
    spec, file = getattr(main, "__spec__", None), main.__dict__.pop("__file__", None)
    main.__spec__ = None
    os.environ.update(_CHILD_ENVIRONMENT)
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
