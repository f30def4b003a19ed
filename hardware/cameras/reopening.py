"""A camera that was unplugged is opened again as soon as it is back."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from hardware.cameras.frame_source import CameraLost, ControlRefused, Frame, FrameSource, NoFrame
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S


class ReopeningSource:
    """Wraps a source so that losing it is a pause, not an end.

    Entering opens the camera and raises whatever that raises: a camera that is missing at the start is a mistake in
    the configuration or a plug that somebody forgot, and is said at once.

    Args:
        source: The camera.
        clock: Measures the durations below; best a monotonic one.
        retry_s: From losing the camera, or failing to open it, to the next attempt [s].
        silent_s: A camera without a frame for this long counts as lost [s].

    Attributes:
        reconnects: How often the camera came back.
        lost: Why the camera is away; None while it is there.
    """

    def __init__(self, source: FrameSource, clock: Clock, *, retry_s: float = 0.5, silent_s: float = 2.0) -> None:
        self._source, self._clock = source, clock
        self._retry_ns, self._silent_ns = round(retry_s * NS_PER_S), round(silent_s * NS_PER_S)
        self._retry_at_ns = 0
        self._last_frame_ns = 0
        self._lost_at_ns = 0
        self.reconnects = 0
        self.lost: str | None = None

    @property
    def fps(self) -> float:
        """The camera's, as last known."""
        return self._source.fps

    def __enter__(self) -> Self:
        self._source.__enter__()
        self.lost = None
        self._last_frame_ns = self._clock.now_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lost is None:
            self._source.__exit__(kind, error, trace)

    def read(self, timeout_s: float) -> Frame:
        """The next frame, after opening the camera again if it was lost and is due for another attempt.

        Raises:
            NoFrame: None came within `timeout_s`, or the camera is away; it says since when and why.
        """
        deadline_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        if self.lost is not None:
            self._reopen(deadline_ns)
        remaining_s = max(0.0, (deadline_ns - self._clock.now_ns()) / NS_PER_S)
        try:
            frame = self._source.read(remaining_s)
        except CameraLost as error:
            self._lose(str(error))
            raise self._away() from error
        except NoFrame as error:
            silent_ns = self._clock.now_ns() - self._last_frame_ns
            if silent_ns < self._silent_ns:
                raise
            self._lose(f"no frame for {silent_ns / NS_PER_S:.1f} s ({error})")
            raise self._away() from error
        self._last_frame_ns = self._clock.now_ns()
        return frame

    def _reopen(self, deadline_ns: int) -> None:
        self._clock.sleep_until_ns(min(self._retry_at_ns, deadline_ns))
        if self._clock.now_ns() < self._retry_at_ns:
            raise self._away()
        try:
            self._source.__enter__()
        except (CameraLost, ControlRefused) as error:
            self.lost = str(error)
            self._retry_at_ns = self._clock.now_ns() + self._retry_ns
            raise self._away() from error
        self.lost = None
        self.reconnects += 1
        self._last_frame_ns = self._clock.now_ns()

    def _lose(self, reason: str) -> None:
        self.lost = reason
        self._lost_at_ns = self._clock.now_ns()
        self._retry_at_ns = self._lost_at_ns + self._retry_ns
        # Closed at once: while the old handle is open, Linux gives the camera another device number when it is back.
        self._source.__exit__(None, None, None)

    def _away(self) -> NoFrame:
        away_s = (self._clock.now_ns() - self._lost_at_ns) / NS_PER_S
        return NoFrame(
            f"camera away for {away_s:.1f} s, trying again every {self._retry_ns / NS_PER_S:g} s: {self.lost}"
        )

    def set_control(self, name: str, value: float) -> None:
        """Sets it on the camera, if that is there.

        Raises:
            ControlRefused: The camera refuses, or it is away.
        """
        if self.lost is not None:
            raise ControlRefused(f"{name} cannot be set to {value:g}: the camera is away ({self.lost})")
        self._source.set_control(name, value)

    def describe(self) -> Mapping[str, str]:
        """The camera's facts, and how often it was away."""
        return {**self._source.describe(), "reconnects": str(self.reconnects), "lost": self.lost or ""}
