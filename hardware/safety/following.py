"""The loop closed: what an arm shows is compared with what it was told, at every command.

An arm that lags is ordinary: at its fastest it is `max_velocity * lag_s` behind. One that is further behind does not
follow: its brake is on, its program paused, its speed turned down, somebody holds it. Then the command waits, so that
what is left to make good when the arm is let go is made good within its own velocity limit. What it was asked to do
meanwhile is measured too: beyond the second limit the arm has a fault that only a person ends.

A command that waits may stop at once: an arm that has not moved is not hurt by not being told to. One whose arm was
pushed away goes after it, so that nothing is left to spring back. It does so because of samples that can be true: those
of a stream whose speed is bounded, else several that say the same.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from hardware.safety.dimensions import dimension_name, unit_of
from hardware.safety.following_limits import FollowingLimits
from hardware.safety.limits import CommandLimits
from hardware.safety.state import FilterReason, FilterResult, FilterState
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, FloatArray

SAMPLES = 3
"""Captures that have to say the same before a fault is called, or a command moved where no stream is bounded."""
PATIENCE_S = 0.5
"""An arm that was waited for is taken to follow again after this long without waiting; what it lost is forgiven."""
RECOVERY_S = 0.25
"""An arm that is waited for again within this time was slow all along."""
MEMORY_S = 1.0
"""For how long motion that a velocity-controlled arm did not make is remembered."""


class Follower:
    """Holds an arm's command near the arm. It has no clock: one call is one command.

    Args:
        limits: At the rate of the commands, with `following`.

    Attributes:
        problem: The fault in words: dimension, command, measurement; empty while the arm follows.
        waits: Commands that had to wait, ever.
    """

    def __init__(self, limits: CommandLimits) -> None:
        assert limits.following is not None
        self._limits = limits
        self._axes = [
            _Axis(limits, limits.following, index)
            for index, kind in enumerate(limits.spec.action_kinds)
            if kind is not ActionKind.BINARY and index not in limits.start
        ]
        self.problem, self.waits = "", 0

    def restart(self) -> None:
        """Begins anew at an arm at rest; a fault is forgotten."""
        self.problem = ""
        for axis in self._axes:
            axis.restart()

    @property
    def near(self) -> bool:
        """Whether the arm can make good within its velocity limit whatever it is behind."""
        return not any(axis.far for axis in self._axes)

    def check(
        self,
        before: FilterState,
        result: FilterResult,
        requested: FloatArray | None,
        observation: Observation | None,
        ahead: FloatArray | None = None,
    ) -> FilterResult:
        """The filtered command, or as much of it as the arm can be told now.

        Args:
            before: The filter's state before this command.
            result: What the filter made of the request.
            requested: What was asked for; None if nothing was. Shape (A,).
            observation: What the arm shows; None while it shows nothing fresh: the filter brakes by itself, and the
                command stays near the place that was seen last, where the arm may have stopped.
            ahead: How far the target that the arm's driver keeps is ahead of the arm, action units, where an action
                is a displacement; NaN where it keeps none. Shape (A,).
        """
        steps: dict[int, float] = {}
        for axis in self._axes:
            index = axis.index
            step = result.state.step[index]
            axis.see(before.position[index], observation, math.nan if ahead is None else float(ahead[index]))
            made = axis.allowed(step)
            axis.ask(None if requested is None else float(requested[index]), step, made)
            if not self.problem and observation is not None and axis.lost:
                self.problem = axis.problem
                made = axis.step_to_arm()
            axis.told(made)
            if made != step:
                steps[index] = made
        if not steps:
            return result
        self.waits += 1
        return _changed(result, before, steps, requested, self._limits)

    def reachable(self, row: FloatArray) -> FloatArray:
        """A row as far as an arm that is waited for will make it. Shapes (A,)."""
        kept = row.copy()
        for axis in self._axes:
            if axis.absolute and axis.waiting:
                kept[axis.index] = axis.clipped(float(row[axis.index]))
        return kept


class _Axis:
    """One action dimension: where it is told to be, and where it was seen to be.

    Places are action units. That of a POSITION dimension is the command itself. A RATE dimension counts what it was
    told since the start; where the driver keeps a target, the arm is as far behind as the driver says, else the count
    forgets within `MEMORY_S`, since motion that a velocity did not bring is stored nowhere, and nothing has to wait.

    Attributes:
        index: In the action.
        absolute: A POSITION dimension.
        waiting: The last command had to wait.
        far: The arm cannot make good within its velocity limit.
    """

    def __init__(self, limits: CommandLimits, following: FollowingLimits, index: int) -> None:
        spec, axis = limits.spec, limits.axes[index]
        self.index = index
        self.absolute = spec.action_kinds[index] is ActionKind.POSITION
        self._name, self._unit = dimension_name(spec, index), unit_of(spec, index)
        self._low, self._high = axis.low, axis.high
        self._most = min(axis.max_step, axis.max_velocity_step)
        self._speed = self._most * spec.control_hz
        self._wait, self._fault = following.wait[index], following.fault[index]
        self._measured = limits.measured.get(index)
        stream = None if self._measured is None else spec.observations.get(self._measured.stream)
        self._bounded = stream is not None and stream.max_speed is not None
        self._period_s = 1.0 / spec.control_hz
        self._keeps = math.exp(-self._period_s / MEMORY_S)
        self._places: collections.deque[float] = collections.deque(maxlen=SAMPLES)
        self.restart()

    def restart(self) -> None:
        """Nothing was told or seen yet."""
        self._places.clear()
        self._told = self._wanted = self._intended = self._recovering = self._late_s = 0.0
        self._origin: float | None = None
        self._waited_s = math.inf
        self._captured_ns: int | None = None
        self._stores = self.absolute
        self.waiting = self.far = False

    def see(self, command: float, observation: Observation | None, ahead: float) -> None:
        """Takes what the arm shows; `command` is where a POSITION dimension was told to be so far."""
        if self.absolute:
            self._told = command
        if observation is None:
            self._late_s = self._period_s
            return
        age_ns = 0 if self._measured is None else observation.age_ns.get(self._measured.stream, 0)
        self._late_s, captured_ns = age_ns / NS_PER_S, observation.stamp_ns - age_ns
        if captured_ns == self._captured_ns:
            return
        place = self._place(observation, ahead)
        if place is not None:
            self._captured_ns = captured_ns
            self._places.append(place)

    def _place(self, observation: Observation, ahead: float) -> float | None:
        if math.isfinite(ahead):
            self._stores = True
            return self._told - ahead
        read = None if self._measured is None else self._measured.read(observation)
        if read is None or self._measured is None:
            return None
        place = read / self._measured.scale
        if self.absolute:
            return place
        self._origin = place if self._origin is None else self._origin
        return place - self._origin

    @property
    def _reach(self) -> float:
        """How far the command may be ahead of the newest sample, which may be the last for a while."""
        return self._wait + self._speed * min(self._late_s, self._period_s)

    def allowed(self, step: float) -> float:
        """As much of a step as may be made now: not out of the reach, and back into it if the arm was moved away."""
        self.far = False
        if not self._stores or not self._places:
            return step
        gap, reach = self._told - self._places[-1], self._reach
        if abs(gap + step) <= reach:
            return step
        most = max(reach, abs(gap))
        made = step if abs(gap + step) <= most else math.copysign(most, gap + step) - gap
        if len(self._places) < SAMPLES:
            return made
        believed = self._places[-1] if self._bounded else self._nearest(self._told + made)
        apart = self._told + made - believed
        if abs(apart) > reach:
            back = made - math.copysign(abs(apart) - reach, apart)
            made = self._in_box(back) if self.absolute else min(max(back, -self._most), self._most)
            self.far = made != back
        return made

    def _in_box(self, step: float) -> float:
        """A step that leaves the box no further than the command is outside already."""
        place = min(max(self._told + step, min(self._low, self._told)), max(self._high, self._told))
        return place - self._told

    def ask(self, requested: float | None, step: float, made: float) -> None:
        """Where the dimension would be by now if it had not had to wait; no faster than it may move.

        After a wait a command speeds up from rest. What that costs counts only if the next wait comes soon: then it is
        the arm that is slow, and not the command that is getting under way.
        """
        self.waiting = made != step and self._stores
        if requested is None or self._waited_s > PATIENCE_S:
            self._intended, self._recovering = self._told + step, 0.0
        else:
            way = requested - self._intended - self._recovering if self.absolute else requested
            way = min(max(way, -self._most), self._most)
            if self.waiting:
                self._intended += self._recovering + way
                self._recovering = 0.0
            else:
                self._intended += made
                self._recovering = self._recovering + way - made if self._waited_s < RECOVERY_S else 0.0
        self._waited_s = 0.0 if self.waiting else self._waited_s + self._period_s
        self._wanted = self._intended if self.waiting else self._told + made

    def told(self, made: float) -> None:
        """Counts the step that was made."""
        self._told += made
        if not self._stores and self._places:
            self._told = self._places[-1] + (self._told - self._places[-1]) * self._keeps

    @property
    def lost(self) -> bool:
        """Whether the last samples all say that the arm is too far from where it was asked, or told, to be."""
        if len(self._places) < SAMPLES:
            return False
        newest, limit = self._places[-1], self._limit
        if abs(self._wanted - newest) <= limit and abs(self._told - newest) <= limit:
            return False
        return max(map(self._apart, (self._wanted, self._told))) > limit

    @property
    def problem(self) -> str:
        """The fault in words."""
        where = max((self._wanted, self._told), key=self._apart)
        origin = self._origin or 0.0
        measured = self._nearest(where) + origin
        return (
            f"{self._name} does not follow: commanded {where + origin:.4g}, measured {measured:.4g} {self._unit}, "
            f"further apart than limits.following.fault {self._fault:g}; "
            "find out what holds or moves the arm, then clear"
        )

    @property
    def _limit(self) -> float:
        return self._fault + self._speed * self._late_s

    def _apart(self, where: float) -> float:
        """How far away all of the last samples are; 0 where they disagree on the direction."""
        return 0.0 if min(self._places) < where < max(self._places) else abs(where - self._nearest(where))

    def _nearest(self, where: float) -> float:
        return min(self._places, key=lambda place: abs(place - where))

    def step_to_arm(self) -> float:
        """The step with the fault: to the arm, if the command is further away than the arm may make good."""
        back = self._nearest(self._told) - self._told
        if not self._stores or abs(back) <= self._reach:
            return 0.0
        return self._in_box(back) if self.absolute else min(max(back, -self._most), self._most)

    def clipped(self, place: float) -> float:
        """A place as far as the arm is followed."""
        return min(max(place, self._places[-1] - self._reach), self._places[-1] + self._reach)


def _changed(
    result: FilterResult,
    before: FilterState,
    steps: Mapping[int, float],
    requested: FloatArray | None,
    limits: CommandLimits,
) -> FilterResult:
    """A result some of whose dimensions wait: these begin their next motion at rest."""
    applied, state = result.applied.copy(), result.state
    position, step, change = list(state.position), list(state.step), list(state.change)
    for index, made in steps.items():
        absolute = limits.spec.action_kinds[index] is ActionKind.POSITION
        if absolute:
            position[index] = before.position[index] + made
        applied[index] = position[index] if absolute else made
        step[index] = change[index] = 0.0
    state = dataclasses.replace(state, position=tuple(position), step=tuple(step), change=tuple(change))
    as_asked = requested is not None and np.array_equal(applied, np.asarray(requested, dtype=applied.dtype))
    reasons = FilterReason.NONE if as_asked else result.reasons | FilterReason.FOLLOWING
    return FilterResult(applied, reasons, state)
