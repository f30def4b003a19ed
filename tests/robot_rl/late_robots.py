"""Simulated arms in virtual time whose cameras and commands are late by known amounts."""

from __future__ import annotations

import dataclasses

import numpy as np

from hardware.cameras.pattern import PatternCamera
from hardware.sim.joint_arm import JointArm
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ArraySpec

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
CLOCK = SimulatedClock(START_NS)
"""Of the robots that are built by name."""
LATE_S, LAG_S = 0.04, 0.03


class LateArm:
    """An arm that obeys rows after a delay, with a camera that stamps its pictures late.

    Args:
        clock: Virtual time.
        delay_s: From a row to the arm's controller [s].
        stamp_s: From a picture's capture to its stamp [s].
        stuck: The arm does not move.
        blank: The camera shows no time.
    """

    def __init__(self, clock=CLOCK, delay_s=LATE_S, stamp_s=0.06, stuck=False, blank=False, name="late", streams=None):
        self.arm = JointArm(clock=clock, lag_s=LAG_S, control_hz=20.0)
        self.clock, self.delay_s, self.stamp_s, self.stuck, self.blank = clock, delay_s, stamp_s, stuck, blank
        self.camera = PatternCamera(clock=clock, width=80, height=60)
        self.waiting = []
        self.resets = self.stops = self.rows = 0
        self.latency_s = (streams or {}).get("image_front", {}).get("latency_s", 0.0)
        image = ArraySpec((60, 80, 3), "uint8", "rgb")
        observations = {**self.arm.spec.observations, "image_front": image}
        self.spec = dataclasses.replace(self.arm.spec, name=name, observations=observations)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def reset(self, seed):
        self.resets += 1
        self.arm.reset(seed)

    def observe(self, tick_ns):
        now_ns = self.clock.now_ns()
        self._obey(now_ns)
        seen = self.arm.observe(tick_ns)
        frame_ns = (now_ns - round(self.stamp_s * 1e9)) // (33 * MS) * 33 * MS
        picture = np.full((60, 80, 3), 90, np.uint8) if self.blank else self.camera.draw(frame_ns)
        age_ns = now_ns - frame_ns - round((self.stamp_s - self.latency_s) * 1e9)
        return Observation(tick_ns, {**seen.values, "image_front": picture}, {**seen.age_ns, "image_front": age_ns})

    def apply(self, action):
        self.rows += 1
        self.waiting.append((self.clock.now_ns() + round(self.delay_s * 1e9), action.copy()))
        return action

    def stop(self):
        self.stops += 1
        self.waiting = []

    def _obey(self, now_ns):
        while self.waiting and self.waiting[0][0] <= now_ns:
            row = self.waiting.pop(0)[1]
            if not self.stuck:
                self.arm.apply(row)


def frozen_time():
    """A robot whose time stands still."""
    robot = LateArm()
    robot.simulated_time = True
    return robot
