"""One thread per camera that reads, counts and hands on; for camera nodes and for drivers in process alike.

A driver without ROS gives each camera's stream a ring and observes through `hardware.sync.align`:

    source = ReopeningSource(UvcCamera(clock=clock, device="/dev/video0"), clock)
    with CameraReader(source, into_ring(ring, height=240, width=320), clock):
        observation = align({"image_wrist": ring}, tick_ns)
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import NamedTuple, Self

from hardware.cameras.frame_source import BadFrame, ControlRefused, Frame, NoFrame, resized
from hardware.cameras.frame_statistics import FrameReport, FrameStatistics
from hardware.cameras.reopening import ReopeningSource
from hardware.sync import StampedRing
from robot_rl.core.protocols import Clock

READ_TIMEOUT_S = 0.2
"""How long the thread waits for a frame before it looks whether it should end or change a setting [s]."""
STOP_TIMEOUT_S = 2.0
CONTROL_TIMEOUT_S = 2.0


class CameraState(NamedTuple):
    """A camera as it is now.

    Attributes:
        report: Since the last time this was asked.
        frames: Handed on since the beginning.
        drops: Missing since the beginning.
        withheld: Not handed on since the beginning, because the picture was frozen.
        damaged: Could not be decoded, since the beginning.
        reconnects: Since the beginning.
        trouble: What is wrong now; empty while frames come.
        facts: See `FrameSource.describe`.
    """

    report: FrameReport
    frames: int
    drops: int
    withheld: int
    damaged: int
    reconnects: int
    trouble: str
    facts: Mapping[str, str]


class CameraReader:
    """Reads a camera in its own thread. Entering opens the camera, so that what is wrong with it is raised there.

    A frame that is not newer than the one before is thrown away. Pictures that repeat themselves byte by byte come
    from a frozen camera, however fresh their stamps: they are withheld, so that whoever waits for them finds the
    stream stale, which is the truth.

    Args:
        source: The camera.
        on_frame: Called in the reader's thread with every frame; may raise `BadFrame` where it cannot be decoded.
        clock: The one that the source stamps with.
        frozen_frames: So many equal pictures in a row mean that the camera is frozen; None believes every picture, for
            a camera without noise.
    """

    def __init__(
        self,
        source: ReopeningSource,
        on_frame: Callable[[Frame], None],
        clock: Clock,
        *,
        frozen_frames: int | None = 15,
    ) -> None:
        self._source, self._on_frame, self._clock = source, on_frame, clock
        self._frozen_frames = frozen_frames
        self._statistics = FrameStatistics(0.0)
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[str, float, Future[None]]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = "no frame yet"
        self._withheld = self._damaged = 0
        self._reconnects_seen = 0
        self.fault: BaseException | None = None

    def __enter__(self) -> Self:
        self._source.__enter__()
        self._statistics = FrameStatistics(self._source.fps)
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="camera reader", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(STOP_TIMEOUT_S)
        # A driver that hangs is left to the end of the process; releasing its camera under it could crash.
        if not self._thread.is_alive():
            self._source.__exit__(kind, error, trace)
        self._thread = None

    def set_control(self, name: str, value: float) -> None:
        """Changes a setting between two frames; returns when it holds.

        Raises:
            ControlRefused: The camera does not take it, or did not answer in time.
        """
        done: Future[None] = Future()
        self._requests.put((name, value, done))
        try:
            done.result(CONTROL_TIMEOUT_S)
        except FutureTimeout as error:
            done.cancel()
            raise ControlRefused(
                f"{name} was not set to {value:g}: the camera did not answer for {CONTROL_TIMEOUT_S:g} s"
            ) from error

    @property
    def fps(self) -> float:
        """Frames per second that the camera says it delivers."""
        return self._source.fps

    def describe(self) -> str:
        """The camera in one line."""
        facts = self._source.describe()
        return ", ".join(facts[key] for key in ("source", "format") if key in facts)

    def state(self) -> CameraState:
        """How the camera does.

        Raises:
            BaseException: What ended the thread, if something did.
        """
        if self.fault is not None:
            raise self.fault
        with self._lock:
            return CameraState(
                report=self._statistics.report(),
                frames=self._statistics.frames - self._withheld - self._damaged,
                drops=self._statistics.drops,
                withheld=self._withheld,
                damaged=self._damaged,
                reconnects=self._source.reconnects,
                trouble=self._trouble,
                facts=self._source.describe(),
            )

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._change_settings()
                self._step()
        # Kept for `state`, which raises it where somebody looks; a thread's own traceback is seen by nobody.
        except Exception as error:
            self.fault = error
            self._trouble = f"the reader ended: {error}"

    def _step(self) -> None:
        try:
            frame = self._source.read(READ_TIMEOUT_S)
        except NoFrame as error:
            self._trouble = str(error)
            return
        with self._lock:
            if self._source.reconnects != self._reconnects_seen:
                self._reconnects_seen = self._source.reconnects
                self._statistics.fps = self._source.fps
                self._statistics.restart()
            if not self._statistics.add(frame, self._clock.now_ns()):
                return
            unchanged = self._statistics.unchanged
            frozen = self._frozen_frames is not None and unchanged >= self._frozen_frames
            self._withheld += frozen
        if frozen:
            self._trouble = f"the picture has not changed for {unchanged} frames: the camera is frozen; unplug it"
            return
        try:
            self._on_frame(frame)
        except BadFrame as error:
            self._damaged += 1
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _change_settings(self) -> None:
        while not self._requests.empty():
            name, value, done = self._requests.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                self._source.set_control(name, value)
            except ControlRefused as error:
                done.set_exception(error)
            else:
                done.set_result(None)


def into_ring(ring: StampedRing, height: int, width: int) -> Callable[[Frame], None]:
    """An `on_frame` for a driver in process: decodes, resizes and keeps frames for `hardware.sync.align`.

    Args:
        ring: Of the camera's stream.
        height: Of the stream's spec [px].
        width: Likewise [px].
    """

    def push(frame: Frame) -> None:
        ring.push(frame.stamp_ns, resized(frame.rgb(), height, width))

    return push
