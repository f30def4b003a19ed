"""Where an arm is before it is moved: believed once several samples agree over a time that no single glitch spans."""

from __future__ import annotations

import collections
import math
from typing import NamedTuple

import numpy as np

from hardware.safety.dimensions import dimension_name, unit_of
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S, ActionKind, FloatArray

SAMPLES = 3
SPAN_S = 0.1
UNSEEN = "the arm has not been seen for long enough"
TURN = 2 * math.pi


class _Sample(NamedTuple):
    """One capture: when, and every measured dimension in action units, NaN where nothing measures one. Shape (A,)."""

    captured_ns: int
    places: FloatArray


class Anchor:
    """The newest pose of an arm, if the samples of the last `SPAN_S` agree with it.

    They agree if none is further away than `limits.following.wait`, within which a wrong start does no harm. A place
    outside the limits is none to begin at, since every command would be one to go elsewhere at once; nor is one that is
    whole turns from where the arm was seen last, which is what an encoder shows that has lost count.

    Args:
        limits: The arm's, with `following`.

    Attributes:
        pose: The command that keeps the arm where it is; None while nothing is certain. Shape (A,).
        problem: Why nothing is certain, in words; empty with a pose.
    """

    def __init__(self, limits: CommandLimits) -> None:
        assert limits.following is not None
        self._limits = limits
        self._tolerance = np.array(limits.following.wait)
        self._samples: collections.deque[_Sample] = collections.deque()
        self._last: FloatArray | None = None
        self.pose: FloatArray | None = None
        self.problem = UNSEEN

    def forget(self, looked_at: bool = False) -> None:
        """What was seen says nothing any more: the arm was out of sight, or was moved by its driver.

        Args:
            looked_at: A person has looked, so that whole turns are believed too.
        """
        self._samples.clear()
        self._last = None if looked_at else self._last
        self.pose, self.problem = None, UNSEEN

    def saw(self, observation: Observation) -> None:
        """Takes what the arm shows now."""
        sample = self._sample(observation)
        if self._samples and sample.captured_ns == self._samples[-1].captured_ns:
            return
        if self._samples and sample.captured_ns < self._samples[-1].captured_ns:
            self.forget()
        self._samples.append(sample)
        while self._long_enough(1):
            self._samples.popleft()
        self.pose, self.problem = None, self._doubt()
        if self.problem:
            return
        try:
            pose = self._limits.start_pose(observation)
        except RobotRLError as error:
            self.problem = str(error)
            return
        self.problem = self._odd_place(pose) or self._turned(sample.places)
        if not self.problem:
            self.pose, self._last = pose, sample.places

    def _odd_place(self, pose: FloatArray) -> str:
        for index, axis in enumerate(self._limits.axes):
            if axis.kind is ActionKind.RATE:
                continue
            beyond = max(axis.low - pose[index], pose[index] - axis.high)
            if beyond > self._tolerance[index]:
                return (
                    f"{dimension_name(self._limits.spec, index)} is at {pose[index]:.4g}, outside its limits "
                    f"{axis.low:.4g} to {axis.high:.4g}: bring it back by hand or by its own panel, or check its zero"
                )
        return ""

    def _turned(self, places: FloatArray) -> str:
        """A joint that seems to have made whole turns while nobody moved it."""
        if self._last is None:
            return ""
        for index in range(len(places)):
            turns = (places[index] - self._last[index]) / TURN
            if unit_of(self._limits.spec, index) != "rad" or not abs(turns) > 0.5:
                continue
            if abs(turns - round(turns)) * TURN <= self._tolerance[index]:
                return (
                    f"{dimension_name(self._limits.spec, index)} is at {places[index]:.4g}, {round(turns)} turns from "
                    f"where it was, {self._last[index]:.4g}: its encoder has lost count; home it, then clear"
                )
        return ""

    def _sample(self, observation: Observation) -> _Sample:
        places = np.full(len(self._limits.axes), math.nan)
        oldest_ns = 0
        for index, measured in self._limits.measured.items():
            oldest_ns = max(oldest_ns, observation.age_ns.get(measured.stream, 0))
            read = measured.read(observation)
            if read is not None and self._limits.spec.action_kinds[index] is not ActionKind.BINARY:
                places[index] = read / measured.scale
        return _Sample(observation.stamp_ns - oldest_ns, places)

    def _long_enough(self, skipped: int = 0) -> bool:
        """Whether the samples, without the first `skipped`, are enough of them over enough time."""
        if len(self._samples) - skipped < SAMPLES:
            return False
        return self._samples[-1].captured_ns - self._samples[skipped].captured_ns >= SPAN_S * NS_PER_S

    def _doubt(self) -> str:
        if not self._long_enough():
            return UNSEEN
        newest = self._samples[-1].places
        for sample in self._samples:
            apart = np.nonzero(np.abs(sample.places - newest) > self._tolerance)[0]
            if apart.size:
                index, between_ms = int(apart[0]), (self._samples[-1].captured_ns - sample.captured_ns) / 1e6
                return (
                    f"{dimension_name(self._limits.spec, index)} was measured at {sample.places[index]:.4g} and "
                    f"{between_ms:.0f} ms later at {newest[index]:.4g}: the arm is not at rest, or a sample is false"
                )
        return ""
