"""A simulated arm that can be held, let go and seen wrongly, and where it really is."""

import threading

import numpy as np

from hardware.arm.state import Clear, Enable, Heartbeat
from tests.hardware.ros.arm_bench import SEEN_TICKS, Bench, WatchedArm

SPEED = 1.0
"""The limit of every joint in `LIMITS` [rad/s]."""

TOLERANCE = 1.05


class StubbornArm(WatchedArm):
    """An arm that can be held, slowed down, and seen wrongly; `lie` is added to what it shows."""

    def __init__(self, clock):
        super().__init__(clock)
        self.scale, self.lie = 1.0, 0.0
        self.resetting, self.home = threading.Event(), threading.Event()
        self.home.set()

    def slow_down(self, scale):
        self._hold_here()
        self.scale = scale

    def _hold_here(self):
        target = self._target
        self._hold_at(self.position())
        self._target = target

    def apply(self, action):
        self._hold_here()
        return super().apply(action)

    def _at(self, now_ns):
        return super()._at(self._anchor_ns + round((now_ns - self._anchor_ns) * self.scale))

    def observe(self, tick_ns):
        seen = super().observe(tick_ns)
        seen.values["joint_position"] = seen.values["joint_position"] + np.float32(self.lie)
        return seen

    def reset(self, seed):
        self.resetting.set()
        self.home.wait(10.0)
        super().reset(seed)

    def stop(self):
        self.home.set()
        super().stop()


class Trial(Bench):
    """Drives one joint back and forth at full speed, and keeps where every joint really is."""

    def __init__(self, **arguments):
        super().__init__(StubbornArm, **arguments)
        self.true, self.rows = [], 0
        self.goal = None

    def tick(self, count=1):
        for _ in range(count):
            super().tick()
            if hasattr(self, "true"):
                self.true.append(self.arm.position())

    def go(self, seconds):
        """Rows at 20 Hz towards an end of the range and back, in the time given."""
        self.goal = self.arm.position() if self.goal is None else self.goal
        for _ in range(round(seconds * 20)):
            self.rows += 1
            self.goal[0] += SPEED / 20 * min(self.rows, 10) / 10 * (1 if self.rows % 80 < 40 else -1)
            self.hear(Heartbeat("a"))
            self.row(self.goal)
            self.tick(5)

    @property
    def fastest(self):
        """Largest speed of any joint [rad/s]."""
        return np.abs(np.diff(np.array(self.true)[:, :6], axis=0)).max() * 100

    def drive_anew(self):
        """What a person does after a fault: look, clear, enable, go on."""
        self.hear(Clear("ada"))
        self.tick(SEEN_TICKS)
        self.goal, self.rows = None, 0
        self.hear(Enable(True), Heartbeat("a"))
