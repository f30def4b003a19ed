"""A camera with behaviour: it can be unplugged, plugged in again, hang, freeze and refuse."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hardware.cameras.frame_source import CameraLost, ControlRefused, Frame, NoFrame
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S


class FakeSource:
    """Gives a numbered grey picture every period of its clock while it is plugged in.

    Attributes:
        plugged: Whether the camera is there.
        silent: Whether it gives no frames although it is there.
        frozen_stamp: Whether it repeats its last frame with its old stamp.
        frozen_picture: Whether it repeats its last picture with new stamps.
        opened: How often it was opened.
        held: Whether somebody holds it open.
        controls: What was set, by name; only `gain` from 0 to 100 is taken.
        made: Every one made by `make_fake_source`, for a test that does not make it itself.
    """

    made: ClassVar[list[FakeSource]] = []

    def __init__(self, clock: Clock, fps: float = 100.0) -> None:
        self._clock = clock
        self.fps = fps
        self.plugged = threading.Event()
        self.plugged.set()
        self.silent = self.frozen_stamp = self.frozen_picture = False
        self.opened = 0
        self.held = False
        self.controls: dict[str, float] = {}
        self._count = 0
        self._due_ns: int | None = None
        self._last: Frame | None = None

    def __enter__(self) -> FakeSource:
        if not self.plugged.is_set():
            raise CameraLost("fake camera is not plugged in")
        assert not self.held, "opened twice without being released"
        self.opened += 1
        self.held = True
        self._due_ns = None
        return self

    def __exit__(self, *_: object) -> None:
        assert self.held, "released without being open"
        self.held = False

    def read(self, timeout_s: float) -> Frame:
        assert self.held, "read without being open"
        if not self.plugged.is_set():
            raise CameraLost("fake camera was unplugged")
        now_ns = self._clock.now_ns()
        due_ns = now_ns if self._due_ns is None else max(now_ns, self._due_ns)
        if self.silent or due_ns > now_ns + timeout_s * NS_PER_S:
            self._clock.sleep_until_ns(now_ns + round(timeout_s * NS_PER_S))
            raise NoFrame("fake camera is silent")
        self._clock.sleep_until_ns(due_ns)
        self._due_ns = due_ns + round(NS_PER_S / self.fps)
        if self._last is not None and self.frozen_stamp:
            return self._last
        self._count += not self.frozen_picture
        image = np.full((24, 32, 3), self._count % 256, np.uint8)
        self._last = Frame(due_ns, 32, 24, image=image)
        return self._last

    def set_control(self, name: str, value: float) -> None:
        if name != "gain" or not 0 <= value <= 100:
            raise ControlRefused(f"fake camera does not take {name} {value:g}")
        self.controls[name] = value

    def describe(self) -> dict[str, str]:
        return {"source": "fake camera"}


def make_fake_source(*, clock: Clock, controls: Mapping[str, float] | None = None) -> FakeSource:
    """A fake camera as a robot's yaml names one."""
    fake = FakeSource(clock)
    fake.controls.update(controls or {})
    FakeSource.made.append(fake)
    return fake
