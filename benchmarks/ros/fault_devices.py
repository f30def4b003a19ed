"""Devices that our nodes run in benchmarks: a camera whose picture can freeze, an arm that notes its commands."""

from __future__ import annotations

import dataclasses
import signal
import time
from types import TracebackType

import numpy as np

from hardware.cameras.frame_source import Frame, Picture
from hardware.cameras.pattern import PatternCamera
from hardware.sim.joint_arm import JointArm
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import FloatArray


class FreezingCamera(PatternCamera):
    """A camera of `camera_node` whose picture stands still from SIGUSR1 to SIGUSR2, under stamps that go on."""

    def __init__(self, *, clock: Clock, width: int = 320, height: int = 240, fps: float = 30.0) -> None:
        super().__init__(clock=clock, width=width, height=height, fps=fps)
        self._frozen = False
        self._last: Picture | None = None
        signal.signal(signal.SIGUSR1, lambda *_: self._freeze(True))
        signal.signal(signal.SIGUSR2, lambda *_: self._freeze(False))

    def _freeze(self, frozen: bool) -> None:
        self._frozen = frozen

    def read(self, timeout_s: float) -> Frame:
        """The next frame, or the last picture under the next stamp."""
        frame = super().read(timeout_s)
        if not self._frozen or self._last is None:
            self._last = frame.image
        return dataclasses.replace(frame, image=self._last)


class TimedJointArm(JointArm):
    """A simulated arm that notes when each command reaches it, and writes that down when it is left.

    Args:
        path: Of a .npy file of times, monotonic [ns].
        control_hz: See `JointArm`.
    """

    def __init__(self, path: str, control_hz: float = 20.0) -> None:
        super().__init__(control_hz=control_hz)
        self._path = path
        self._times_ns: list[int] = []

    def apply(self, action: FloatArray) -> FloatArray:
        """Moves like the arm it is, and notes when."""
        self._times_ns.append(time.monotonic_ns())
        return super().apply(action)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        np.save(self._path, np.array(self._times_ns, dtype=np.int64))
