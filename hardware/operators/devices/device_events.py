"""Reading a device's raw events in a thread of its own, through unplugging and plugging in again.

A device gives raw records (`EventStream`), a decoder makes named controls of them, and `DeviceReader` keeps what they
are worth now. Whatever goes wrong with a device, all its controls are then at rest: a lost device never leaves the last
motion standing.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

READ_BYTES = 4096
RESCAN_S = 0.5
"""How often to look for a device that is gone."""
PRESSED = 0.5
"""A control deflected by more than this counts as pressed."""
AT_REST = 0.1
"""A control deflected by no more than this is at rest; sticks do not come back to exactly where they were."""


class DeviceMissing(RobotRLError):
    """No such device, or this user may not read it."""


class DeviceUnfit(DeviceMissing):
    """The device is there, but is not what the settings ask for."""


class Change(NamedTuple):
    """A control's new deflection: a button 0 or 1, an axis -1 to 1."""

    control: str
    value: float


class EventStream(Protocol):
    """Raw records of one device: the device file itself, or a recording of it."""

    name: str

    def fileno(self) -> int:
        """What to wait on until there is something to read."""

    def read(self) -> bytes:
        """Whole records, at once; empty when the device is gone.

        Raises:
            OSError: The device is gone.
        """

    def close(self) -> None:
        """Lets go of the device; more than once does no harm."""


class Decoder(Protocol):
    """Turns raw records into changes of controls."""

    def feed(self, data: bytes) -> Sequence[Change]:
        """Changes in the order they happened; raises nothing, whatever the data."""


class Connection(NamedTuple):
    """A device that was found and opened, with the decoder that fits it.

    Attributes:
        stream: Its records.
        decoder: Makes changes of controls of them.
        opening: How far its controls were deflected when it was opened.
        controls: Those that it has; None if that is not known.
        about: What it is made of, in words.
        notes: What a person should know about it.
    """

    stream: EventStream
    decoder: Decoder
    opening: Sequence[Change] = ()
    controls: Collection[str] | None = None
    about: str = ""
    notes: Sequence[str] = ()


class Reading(NamedTuple):
    """What a device says now.

    Attributes:
        values: Control to deflection; whatever is absent is at rest.
        pressed: Controls pressed since the last reading, in order, however short the press.
        connections: How often the device has been connected, counting from 1.
        problem: Why there is no device, in words; empty while there is one.
    """

    values: dict[str, float]
    pressed: tuple[str, ...]
    connections: int
    problem: str


class DeviceFile:
    """A device file such as /dev/input/event3, read without waiting.

    Args:
        path: The device file.
        name: The device's own name, for people.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The open file."""
        return self._fd

    def read(self) -> bytes:
        """What the kernel has, at most a buffer full."""
        return os.read(self._fd, READ_BYTES)

    def close(self) -> None:
        """Closes the device file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class DeviceReader:
    """A device's controls as they are now; a context manager whose thread reads while it is entered.

    A control that is deflected when the device is opened, or opened again, counts as at rest until it has been: a stick
    that is held while the device is plugged in moves nothing, and a button that is stuck presses nothing.

    Args:
        find: Opens the device, or raises `DeviceMissing`; called again while it is gone.
        clock_ns: Monotonic time [ns].
        repeating: Controls that the device reports over and over while they are deflected.
        rest_after_s: Those are taken to be at rest when the device has been silent for this long [s]; it may be out of
            reach while its receiver stays plugged in.
        say: Tells the person what is odd about a device that was opened.
    """

    def __init__(
        self,
        find: Callable[[], Connection],
        clock_ns: Callable[[], int] = time.monotonic_ns,
        repeating: Collection[str] = (),
        rest_after_s: float = 0.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._say = say or (lambda message: None)
        self._find = find
        self._clock_ns = clock_ns
        self._repeating = frozenset(repeating)
        self._rest_after_ns = round(rest_after_s * NS_PER_S)
        self._lock = threading.Lock()
        self._entered = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._name = "device"
        self._values: dict[str, float] = {}
        self._held: set[str] = set()
        self._pressed: collections.deque[str] = collections.deque(maxlen=64)
        self._heard_ns = 0
        self._connections = 0
        self._problem = "not opened yet"
        self._wake = -1

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.connect()
            stack.callback(self.disconnect)
            woken, self._wake = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, woken)
            thread = threading.Thread(target=self._run, args=(woken,), name="operator-device", daemon=True)
            stack.callback(thread.join)
            stack.callback(os.close, self._wake)
            thread.start()
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    @property
    def name(self) -> str:
        """The device's own name, once it was found."""
        return self._name

    def connect(self) -> None:
        """Opens the device.

        Raises:
            DeviceMissing: It is not there.
        """
        self._connection = self._find()
        with self._lock:
            self._name = self._connection.stream.name
            self._values.clear()
            self._held = {control for control, value in self._connection.opening if abs(value) > AT_REST}
            self._connections += 1
            self._problem = ""
        for note in (*self._connection.notes, *held_in_words(self._connection.opening)):
            self._say(f"{self._name}: {note}")

    def disconnect(self) -> None:
        """Closes the device, if it is open."""
        if self._connection is not None:
            self._connection.stream.close()
        self._connection = None

    def reading(self) -> Reading:
        """What the device says now; never waits."""
        now_ns = self._clock_ns()
        with self._lock:
            silent = self._rest_after_ns > 0 and now_ns - self._heard_ns > self._rest_after_ns
            values = {
                control: 0.0 if silent and control in self._repeating else value
                for control, value in self._values.items()
            }
            pressed = tuple(self._pressed)
            self._pressed.clear()
            return Reading(values, pressed, self._connections, self._problem)

    def pump(self) -> None:
        """Takes what the device has said by now, or looks for it if it is gone; for the thread, and for tests."""
        if self._connection is None:
            self._look_again()
            return
        try:
            data = self._connection.stream.read()
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if not data:
            self._lose("it says nothing more")
            return
        self._take(self._connection.decoder.feed(data))

    def _look_again(self) -> None:
        try:
            self.connect()
        except DeviceUnfit as error:
            with self._lock:
                self._problem = str(error)
        except DeviceMissing:
            # Still gone, as `_problem` says.
            return

    def _take(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._heard_ns = self._clock_ns()
            for control, value in changes:
                if control in self._held and abs(value) > AT_REST:
                    continue
                self._held.discard(control)
                if value > PRESSED >= self._values.get(control, 0.0):
                    self._pressed.append(control)
                self._values[control] = value

    def _lose(self, reason: str) -> None:
        self.disconnect()
        with self._lock:
            self._values.clear()
            self._problem = f"{self._name} is gone ({reason}): plug it in again"

    def _run(self, woken: int) -> None:
        """Reads until the other end of the pipe `woken` is closed."""
        try:
            while not self._is_woken(woken):
                self.pump()
        finally:
            # However this thread ends, nothing that was held keeps moving the robot.
            with self._lock:
                self._values.clear()
                self._problem = self._problem or f"{self._name} is no longer read"

    def _is_woken(self, woken: int) -> bool:
        """Waits until there is something to do; whether that is to end."""
        waiting = select.poll()
        waiting.register(woken, select.POLLIN)
        if self._connection is not None:
            waiting.register(self._connection.stream.fileno(), select.POLLIN)
        ready = waiting.poll(None if self._connection is not None else RESCAN_S * 1000)
        return any(fd == woken for fd, _ in ready)


def held_in_words(opening: Sequence[Change]) -> list[str]:
    """What to tell a person about controls that were deflected when a device was opened; nothing if none was."""
    held = [f"{control} ({value:+.2f})" for control, value in opening if abs(value) > AT_REST]
    if not held:
        return []
    return [
        f"not at rest when it was opened: {', '.join(held)}. They count as let go until they have been; if nobody "
        "holds them, press them through once, or something is stuck or worn out"
    ]
