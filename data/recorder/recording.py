"""One running episode: the control tick's side and the thread that compresses and logs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from data.archive.codecs import Codec
from data.archive.schema import DatasetError
from data.recorder.log import LogWriter, frame_record, tick_dtype, tick_record
from robot_rl.core.episode import EpisodeResult, Outcome, Step
from robot_rl.core.episode_builder import FrameCounter, NewFrame
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ArraySpec


class RecordingFailed(DatasetError):
    """A step could not be recorded."""


@dataclass(frozen=True)
class _Tick:
    """One step on its way to the log: its new frames and its own record."""

    frames: list[NewFrame]
    record: bytes
    reward: float


@dataclass(frozen=True)
class _Abort:
    """Finish the log as aborted, with whatever is in it by then."""

    reason: str
    cadence: Mapping[str, Any] = field(default_factory=dict)


class _Discard:
    """Finish without a trace."""


class Recording:
    """Takes the steps of one episode and logs them in a thread of its own.

    Attributes:
        acknowledged: Ticks whose write has returned.
    """

    def __init__(
        self,
        log: LogWriter,
        *,
        queue_ticks: int,
        sync_s: float | None,
        on_finished: Callable[[Path], None],
        on_failed: Callable[[str], None],
        after: Recording | None = None,
    ) -> None:
        """Starts the thread.

        Args:
            log: A new one; the recording closes it.
            queue_ticks: How many steps may wait for the thread.
            sync_s: How often the log is forced to the disk [s]; None for never.
            on_finished: Told the path of a log that has its result.
            on_failed: Told of a failure that no `append` reported.
            after: The recording before; episodes are committed in the order in which they were recorded.
        """
        self.acknowledged = 0
        self._log = log
        self._gate = _Gate(log)
        self._queue: SimpleQueue[_Tick | EpisodeResult | _Abort | _Discard] = SimpleQueue()
        self._queue_ticks = queue_ticks
        self._sync_s = sync_s
        self._on_finished = on_finished
        self._on_failed = on_failed
        self._after = after
        self._failure: str | None = None
        self._reported = False
        self._log_is_broken = False
        self._rewards: list[float] = []
        self._stop_syncing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the thread has nothing left to do."""
        return not self._thread.is_alive()

    @property
    def ticks(self) -> int:
        """Steps taken so far."""
        return self._gate.ticks

    def append(self, step: Step) -> None:
        """Queues a step; frames are copied, so the robot may use its buffers again.

        Raises:
            RecordingFailed: The step is not recorded, and neither is any later one.
        """
        if self._failure is None and self._queue.qsize() >= self._queue_ticks:
            self._failure = (
                f"recording is {self._queue_ticks} ticks behind: the disk or the image codec is too slow for these "
                "streams; use fewer or smaller cameras, a cheaper codec or a faster disk"
            )
        if self._failure is None:
            self._failure = self._gate.problem_with(step)
        if self._failure is not None:
            self._reported = True
            raise RecordingFailed(
                f"tick {self._gate.ticks} is not recorded: {self._failure}; the ones before are in {self._log.path}"
            )
        self._queue.put(self._gate.take(step))

    def end(self, result: EpisodeResult) -> None:
        """Queues the result and returns; the log is finished once every step is in it.

        Raises:
            RecordingFailed: `result.ticks` is not the number of steps taken.
        """
        if self._failure is None and result.ticks != self._gate.ticks:
            raise RecordingFailed(f"the result is of {result.ticks} ticks, but {self._gate.ticks} were appended")
        self._queue.put(result)

    def abort(self, reason: str) -> None:
        """Queues an end as aborted and truncated."""
        self._queue.put(_Abort(reason))

    def discard(self) -> None:
        """Deletes the log and lets the thread end."""
        self._log.path.unlink(missing_ok=True)
        self._queue.put(_Discard())

    def join(self, timeout_s: float | None) -> None:
        """Waits for the thread."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        syncing = threading.Thread(target=self._sync, name="log sync", daemon=True)
        syncing.start()
        finished = False
        try:
            while isinstance(item := self._queue.get(), _Tick):
                self._record(item)
            if not isinstance(item, _Discard):
                finished = self._finish(item)
        finally:
            self._stop_syncing.set()
            syncing.join()
            self._log.close()
        if self._after is not None:
            self._after.join(None)
            self._after = None
        if self._failure is not None and not self._reported:
            self._on_failed(f"{self._log.path.name}: {self._failure}; {self.acknowledged} ticks are safe")
        if finished:
            self._on_finished(self._log.path)

    def _record(self, tick: _Tick) -> None:
        # After a tick that was lost, later ones would make a gap that nobody could see.
        if self._log_is_broken:
            return
        try:
            frames = [self._gate.frame_record(each) for each in tick.frames]
            self._log.write(*frames, tick.record)
        except Exception as error:  # The thread's end of the line: the control tick raises it, whatever it is.
            self._log_is_broken = True
            self._fail(error)
            return
        self._rewards.append(tick.reward)
        self.acknowledged += 1

    def _finish(self, end: EpisodeResult | _Abort) -> bool:
        """Writes the result; returns whether the log has one now."""
        if isinstance(end, EpisodeResult) and self._failure is not None:
            end = _Abort(f"{end.reason}; {self._failure}", end.cadence)
        try:
            self._log.finish(end if isinstance(end, EpisodeResult) else self._aborted(end))
            if self._sync_s is not None:
                self._log.sync()
        except RobotRLError as error:
            self._fail(error)
            return False
        return True

    def _aborted(self, end: _Abort) -> EpisodeResult:
        return EpisodeResult(
            outcome=Outcome.ABORTED,
            terminated=False,
            truncated=True,
            reason=end.reason,
            ticks=self.acknowledged,
            reward_sum=sum(self._rewards),
            reward_max=max(self._rewards, default=0.0),
            cadence=end.cadence,
        )

    def _sync(self) -> None:
        # A thread of its own: fdatasync can take longer than the queue is deep.
        while self._sync_s is not None and not self._stop_syncing.wait(self._sync_s):
            try:
                self._log.sync()
            except RobotRLError as error:
                self._fail(error)
                return

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = f"{error}" if isinstance(error, RobotRLError) else f"{type(error).__name__}: {error}"


class _Gate:
    """What the control tick checks and remembers.

    Attributes:
        ticks: Steps taken so far.
    """

    def __init__(self, log: LogWriter) -> None:
        spec, codecs = log.head.spec, log.head.codecs
        self.ticks = 0
        self._streams: list[tuple[str, ArraySpec]] = list(spec.observations.items())
        self._action_shape = spec.action.shape
        self._dtype = tick_dtype(spec)
        self._numbers = {
            name: (number, Codec.parse(codecs[name]) if name in codecs else None)
            for number, name in enumerate(spec.observations)
        }
        self._tick_ns: int | None = None
        self._frames = FrameCounter([*spec.observations])

    def problem_with(self, step: Step) -> str | None:
        """Why a step cannot be recorded, or None."""
        seen = step.observation
        for name, action in (("requested", step.requested), ("applied", step.applied)):
            if np.shape(action) != self._action_shape:
                return f"{name} has shape {np.shape(action)}, wanted {self._action_shape}"
        if self._tick_ns is not None and seen.stamp_ns <= self._tick_ns:
            return f"its stamp is {seen.stamp_ns} ns, not after the last tick's {self._tick_ns} ns: the clock went back"
        for (name, spec), last_ns in zip(self._streams, self._frames.stamps_ns, strict=True):
            if name not in seen.values or name not in seen.age_ns:
                return f"stream '{name}' is missing from the observation or has no age"
            values, stamp_ns = seen.values[name], seen.stamp_ns - seen.age_ns[name]
            if values.shape != spec.shape or values.dtype != spec.dtype:
                return f"stream '{name}' is {values.dtype} {values.shape}, wanted {spec.dtype} {spec.shape}"
            if last_ns is not None and stamp_ns < last_ns:
                return f"stream '{name}' has a frame of {stamp_ns} ns after one of {last_ns} ns: its stamps went back"
        return None

    def take(self, step: Step) -> _Tick:
        """The step without what the log has already."""
        new = self._frames.take(step.observation)
        self._tick_ns = step.observation.stamp_ns
        self.ticks += 1
        return _Tick(new, tick_record(step, self._frames.newest, self._dtype), step.reward)

    def frame_record(self, frame: NewFrame) -> bytes:
        """A frame as the log takes it."""
        number, codec = self._numbers[frame.stream]
        return frame_record(
            number, frame.stamp_ns, frame.value.tobytes() if codec is None else codec.encode(frame.value)
        )
