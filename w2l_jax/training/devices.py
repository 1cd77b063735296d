"""Data parallelism: each device takes some rows of every batch, all hold the parameters.

The step itself is unaware of this. It is compiled for arrays placed here, so that its sums over the batch become sums
over all devices of all processes. Processes run the same program on the same folders, each with its own devices; only
the first one writes and prints.
"""

import atexit
import contextlib
import ctypes
import dataclasses
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from w2l_jax.errors import UserError

_ROWS = "rows"
_LONGEST = 256  # bytes of a text that processes exchange


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices in the order of their rows, equally many of every process."""

    mesh: Mesh

    @staticmethod
    def choose(requested: int, batch_size: int, report: Callable[[str], None] = print) -> "Devices":
        """`requested` devices of every process, or (0) as many as divide `batch_size` rows evenly.

        Raises UserError if there are fewer, or the rows do not divide evenly.
        """
        by_process = [[d for d in jax.devices() if d.process_index == i] for i in range(jax.process_count())]
        available, processes = min(map(len, by_process)), len(by_process)
        each = " in each process" if processes > 1 else ""
        if requested > available:
            kind = jax.devices()[0].device_kind
            raise UserError(f"devices.count={requested}: there are {available}{each} ({kind}); 0 uses all")
        divisors = [n for n in range(1, available + 1) if batch_size % (processes * n) == 0]
        if requested and requested not in divisors:
            raise UserError(
                f"batch_size={batch_size} is not a multiple of the {processes * requested} devices that devices.count="
                f"{requested} makes{each and ' of all processes'}; change one of the two"
            )
        if not divisors:
            raise UserError(f"batch_size={batch_size} is not a multiple of the {processes} processes; change it")
        if not requested and divisors[-1] < available:
            report(f"note: {divisors[-1]} of {available} devices{each} are used: {batch_size} utterances divide evenly")
        return Devices(Mesh(np.array([own[: requested or divisors[-1]] for own in by_process]).ravel(), (_ROWS,)))

    @property
    def count(self) -> int:
        """The total number of devices."""
        return self.mesh.size

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return jax.process_index() == 0

    @property
    def is_single_process(self) -> bool:
        """Whether there is no other process."""
        return jax.process_count() == 1

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device holds."""
        return NamedSharding(self.mesh, PartitionSpec())

    def own(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The rows of a batch for this process's devices."""
        size = len(rows) // jax.process_count()
        return rows[jax.process_index() * size :][:size]

    def place(self, batch: Any) -> Any:
        """The batch spread over all devices, given this process's `own` rows (NumPy)."""
        rows = NamedSharding(self.mesh, PartitionSpec(_ROWS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), batch)

    def on_every_device(self, array: np.ndarray) -> jax.Array:
        """An array that every process holds, on every device."""
        return jax.make_array_from_process_local_data(self.replicated, array)

    def by_rows(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """`function(shared, batch)`, computed by every device on its own rows; `shared` is on all of them."""
        rows = PartitionSpec(_ROWS)
        return jax.shard_map(function, mesh=self.mesh, in_specs=(PartitionSpec(), rows), out_specs=rows)

    def replicate(self, tree: Any) -> Any:
        """The first process's arrays on every device, in buffers of their own."""
        if self.is_single_process:
            return jax.device_put(jax.tree.map(jnp.array, tree), self.replicated)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.replicated, _of_first(x)), tree)

    def local(self, tree: Any) -> tuple["Devices", Any]:
        """This process's devices only, and a tree made by `replicate`, on them."""
        own = Devices(Mesh(np.array(self.mesh.local_devices), (_ROWS,)))
        return own, jax.device_put(jax.tree.map(lambda x: x.addressable_data(0), tree), own.replicated)

    def consensus(self, text: str = "") -> str:
        """The first non-empty text among those of all processes, which wait for each other here."""
        if self.is_single_process:
            return text
        mine = np.frombuffer(text.encode()[:_LONGEST].ljust(_LONGEST, b"\0"), np.uint8)
        texts = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in multihost_utils.process_allgather(mine)]
        return next(filter(None, texts), "")


def _of_first(array: Any) -> np.ndarray:
    """The first process's array, bit by bit: broadcasting adds, which would turn -0.0 into 0.0."""
    array = np.asarray(array)
    bits = multihost_utils.broadcast_one_to_all(array.view(f"u{array.itemsize}"))
    return np.asarray(bits).view(array.dtype)


@contextlib.contextmanager
def distributed(text: str) -> Iterator[None]:
    """Makes this process one of several within the block; nothing may have used JAX before.

    `text` is `auto` (Slurm, Open MPI and others say which) or `i/n@host:port`: process i of n, of which 0 listens at
    host:port, only on that address if it is one, and on all of its machine's if it is a name (or with `auto`). Drops
    standard output of all but the first. Raises UserError for other texts, and if processes do not find each other.
    """
    manual = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", text)
    if not manual and text != "auto":
        raise UserError(f"devices.distributed={text}: give auto (under Slurm, …) or i/n@host:port, i from 0 to n-1")
    options: dict[str, Any] = {}
    if manual:
        number, count, address = manual.groups()
        options = {"coordinator_address": address, "num_processes": int(count), "process_id": int(number)}
        options["cluster_detection_method"] = "deactivate"
        # JAX's default is every interface of the machine; a name may resolve differently elsewhere.
        if re.fullmatch(r"localhost|[\d.]+|\[[\da-fA-F:.]+\]", address.rpartition(":")[0]):
            options["coordinator_bind_address"] = address
    try:
        jax.distributed.initialize(**options)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"devices.distributed={text}: the processes did not find each other ({error}); if no scheduler tells them, "
            "start each with i/n@host:port, i from 0 to n-1 and the rest the same"
        ) from None
    # JAX handles SIGTERM itself, and the process would then not end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.ExitStack() as stack:
        with _silenced():  # Gloo prints when the processes connect
            first = jax.process_index() == 0
        if not first:
            stack.enter_context(_silenced())
        try:
            yield
        except BaseException as error:
            # At exit JAX would wait for the others, which wait for this one. A signal stops all of them (SystemExit).
            if not isinstance(error, SystemExit):
                atexit.register(_leave)
            raise


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drops standard output within the block, including that of C libraries."""
    sys.stdout.flush()
    ours = os.dup(1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)  # C's own buffers
            os.dup2(ours, 1)
            os.close(ours)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
