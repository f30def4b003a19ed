"""Recordings of a device's raw events: text that a person can read and a test can keep.

The first line describes the device; every other line is the time since the start [ns] and the bytes that were read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hardware.operators.devices.device_events import READ_BYTES, Connection, DeviceMissing, EventStream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

HOW_TO_RECORD = "python -m hardware.operators.devices.record_events gamepad FILE"


class RecordedEvents(NamedTuple):
    """One read of a device: time since the recording began [ns], and the bytes."""

    elapsed_ns: int
    data: bytes


@dataclass(frozen=True)
class EventRecording:
    """What a device said in a stretch of time.

    Attributes:
        kind: `gamepad` or `spacemouse`.
        name: The device's own name.
        about: What its decoder must know, for example the axes' ranges.
        records: In order.
    """

    kind: str
    name: str
    about: Mapping[str, Any]
    records: Sequence[RecordedEvents]

    def save(self, path: Path) -> None:
        """Writes the recording."""
        lines = [json.dumps({"kind": self.kind, "name": self.name, "about": dict(self.about)})]
        lines += [f"{each.elapsed_ns} {each.data.hex()}" for each in self.records]
        path.write_text("\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: Path, kind: str) -> EventRecording:
        """Reads a recording.

        Raises:
            RobotRLError: It is none, or one of another kind of device.
        """
        try:
            first, *lines = path.read_text().splitlines()
            head = json.loads(first)
            records = [RecordedEvents(int(at), bytes.fromhex(data)) for at, data in map(str.split, lines)]
            recording = cls(head["kind"], head["name"], head["about"], records)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RobotRLError(f"{path} is no recording of a device ({error}); make one: {HOW_TO_RECORD}") from None
        if recording.kind != kind:
            raise RobotRLError(f"{path} is a recording of a {recording.kind}, wanted one of a {kind}")
        return recording


def record(
    stream: EventStream, duration_s: float, clock_ns: Callable[[], int] = time.monotonic_ns
) -> Iterable[RecordedEvents]:
    """What a device says until the time is over or the device is gone.

    Args:
        stream: The device, which must not wait in `read`.
        duration_s: For how long [s].
        clock_ns: Monotonic time [ns].
    """
    start_ns = clock_ns()
    while (elapsed_ns := clock_ns() - start_ns) < duration_s * NS_PER_S:
        try:
            data = stream.read()
        except BlockingIOError:
            time.sleep(0.001)
            continue
        except OSError:
            return
        if not data:
            return
        yield RecordedEvents(elapsed_ns, data)


class Playback:
    """A recording in place of a device: says the same at the same times, and is then gone, as if unplugged.

    Args:
        recording: What to say.
    """

    def __init__(self, recording: EventRecording) -> None:
        self.name = f"recording of {recording.name}"
        self._closing = threading.Event()
        # Unlike a pipe it keeps records apart, as a device does.
        self._socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        end.setblocking(False)
        self._thread = threading.Thread(target=self._play, args=(recording.records, end), daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """A socket."""
        return self._socket.fileno()

    def read(self) -> bytes:
        """The next records, when their time has come."""
        return self._socket.recv(READ_BYTES)

    def close(self) -> None:
        """Ends the replay."""
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _play(self, records: Sequence[RecordedEvents], end: socket.socket) -> None:
        start_ns = time.monotonic_ns()
        with end:
            for each in records:
                if self._closing.wait(max(0, start_ns + each.elapsed_ns - time.monotonic_ns()) / NS_PER_S):
                    return
                # A reader that has fallen so far behind misses events, as it would of a device.
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    end.send(each.data)


def device_source(
    kind: str,
    device: str | None,
    connect: Callable[[str | None], Connection],
    play: Callable[[EventRecording], Connection],
) -> Callable[[], Connection]:
    """How to open what `operator.device` names: a device file, a recording, or None for whatever is there.

    A recording is played once and then stays away, as an unplugged device does.

    Args:
        kind: What a recording must be of: `gamepad` or `spacemouse`.
        device: A path, or None.
        connect: Opens a real device.
        play: Opens a recording.

    Raises:
        RobotRLError: The recording is none.
    """
    if device is None or not Path(device).is_file():
        return functools.partial(connect, device)
    left = [EventRecording.load(Path(device), kind)]

    def find() -> Connection:
        if not left:
            raise DeviceMissing(f"the recording {device} has ended")
        return play(left.pop())

    return find
