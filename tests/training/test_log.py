"""The log of a training run: TensorBoard's file, and a full disk."""

import struct
import threading

import pytest

from w2l_jax.training.log import MetricsLog


def events(folder):
    """The events of the only file in `folder`, whose records are length, checksum, content, checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    [path] = folder.iterdir()
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("Q", content[:8])
        found.append(event_pb2.Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return found


def test_tensorboard_holds_every_number_and_drops_what_a_resume_repeats(tmp_path):
    log = MetricsLog(tmp_path, 3)
    log.write("train", 4, {"loss": 1.5, "skipped": 0, "samples": ["a"]})
    log.write("dev", 5, {"ler": float("nan"), "seconds": 2.5})
    log.close()
    head, restart, *rest = events(tmp_path / "tensorboard")
    assert head.file_version == "brain.Event:2"
    assert restart.step == 4 and restart.session_log.status == restart.session_log.START
    found = [(event.step, value.tag, str(value.simple_value)) for event in rest for value in event.summary.value]
    expected = [(4, "train/loss", "1.5"), (4, "train/skipped", "0.0"), (5, "dev/ler", "nan"), (5, "dev/seconds", "2.5")]
    assert found == expected


def test_a_full_disk_is_raised_and_never_waits(small_disk):
    """Once a thread of TensorBoard's writer ended with the error, and the eleventh number waited for it forever."""
    log, raised = MetricsLog(small_disk("8k"), 0), []

    def write():
        try:
            for step in range(5000):
                log.write("train", step, dict.fromkeys("abcdefgh", 1.0))
        except OSError as error:
            raised.append(error.strerror)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(30)
    assert raised == ["No space left on device"]
