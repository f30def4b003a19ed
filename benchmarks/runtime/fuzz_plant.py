"""The arm behind the command interpolator of `stream_fuzz.py`: lag, saturation, stiction, pauses, and what it shows.

A measured POSITION dimension follows its command like a first-order lag of the time that `limits.following` states, no
faster than a speed limit of its own, which is up to ten times the command's; at rest it sticks, and now and then it
stops dead for up to a second. A RATE dimension with a box moves a tool that shows where it is some ticks late.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from benchmarks.runtime.fuzz_draws import Array, Tool
from benchmarks.runtime.fuzz_run import FuzzCount
from hardware.safety.following_limits import MOST_AHEAD, FollowingLimits
from hardware.safety.limits import CommandLimits
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray

LONGEST_PAUSE_S = 1.0
PAUSES = 0.004
"""Share of ticks at which a dimension begins to pause."""
SLACK = 1e-6
"""Of the gap between command and arm, relative to its limit; rounding to the action's dtype comes on top."""


def with_following(limits: CommandLimits, stream_hz: float, generator: np.random.Generator) -> CommandLimits:
    """The same limits for an arm that follows with some lag, as `CommandLimits.require_following` wants them."""
    shown_s = max((box.lag_s for box in limits.measured.values()), default=0.0)
    lags_s, wait, fault = list[float](), list[float](), list[float]()
    for axis, kind in zip(limits.axes, limits.spec.action_kinds, strict=True):
        lag_s = max(shown_s, 10 ** float(generator.uniform(-2.0, -0.5)))
        lags_s.append(lag_s)
        share = float(generator.uniform(0.02, 0.98))
        speed = min(axis.max_step, axis.max_velocity_step) * limits.spec.control_hz
        least, most = speed * lag_s, MOST_AHEAD * speed / (stream_hz * _share(lag_s, stream_hz))
        binary = kind is ActionKind.BINARY
        wait.append(math.inf if binary else least + share * (most - least))
        fault.append(math.inf if binary else max(wait[-1], 1e-9) * float(generator.uniform(1.5, 8.0)))
    return dataclasses.replace(limits, following=FollowingLimits(tuple(lags_s), tuple(wait), tuple(fault)))


def _share(lag_s: float, hz: float) -> float:
    """How much of its gap a lag closes in a tick."""
    return -math.expm1(-1.0 / (hz * lag_s))


class _Joint:
    """One dimension; `place` is where it is, `paused` for how many ticks it stands still."""

    def __init__(self, place: float, fastest: float, generator: np.random.Generator, wait: float) -> None:
        self.place, self.paused, self.moving = place, 0, False
        self.most = fastest * 10 ** float(generator.uniform(0.0, 1.0))
        self.sticks = wait * float(generator.choice([0.0, 0.0, 0.1, 0.3]))

    def move(self, command: float, share: float) -> None:
        """Goes a tick's share of the gap to its command, if nothing holds it."""
        gap = command - self.place
        if self.paused:
            self.paused, self.moving = self.paused - 1, False
        elif self.moving or abs(gap) > self.sticks:
            self.place += min(max(gap * share, -self.most), self.most)
            self.moving = abs(gap) * share > 1e-3 * self.most


class Plant:
    """Joints that follow and tools that show their place late, moved command by command.

    Args:
        limits: At the rate of the commands, with `following`.
        pose: Where it is, at rest. Shape (A,).
        generator: Of its body.
        ticks: Of a round.
    """

    def __init__(self, limits: CommandLimits, pose: Array, generator: np.random.Generator, ticks: int) -> None:
        assert limits.following is not None
        self._limits, self._following = limits, limits.following
        hz = limits.spec.control_hz
        self.tool = Tool(limits)
        self._shares = [_share(lag_s, hz) for lag_s in self._following.lag_s]
        self._fastest = {
            index: min(limits.axes[index].max_step, limits.axes[index].max_velocity_step)
            for index in limits.measured
            if limits.spec.action_kinds[index] is ActionKind.POSITION
        }
        self._joints = {
            index: _Joint(float(pose[index]), most, generator, self._following.wait[index])
            for index, most in self._fastest.items()
        }
        pauses = (generator.random(ticks) < PAUSES).tolist()
        lengths = generator.integers(1, 2 + int(LONGEST_PAUSE_S * hz), ticks).tolist()
        self._pauses = [length if pause else 0 for pause, length in zip(pauses, lengths, strict=True)]
        self._seen = [self._show()]
        self._path: list[list[float]] = []

    def _show(self) -> Array:
        shown = self.tool.shown.copy()
        for index, joint in self._joints.items():
            shown[index] = joint.place
        return shown

    def shown(self, age_ns: int) -> Array:
        """What a sample of an age shows, in whole ticks. Shape (A,)."""
        back = int(max(0, age_ns) * self._limits.spec.control_hz / NS_PER_S)
        return self._seen[max(0, len(self._seen) - 1 - back)]

    @property
    def still(self) -> bool:
        """Whether nothing moves."""
        return not any(joint.moving for joint in self._joints.values())

    def pose(self, command: Array) -> Array:
        """Where motion begins anew: the measured place, or the command where nothing measures it. Shape (A,)."""
        pose = command.copy()
        for index, joint in self._joints.items():
            pose[index] = joint.place
        return pose

    def move(self, tick: int, applied: AnyArray) -> None:
        """Takes a command and lives for a tick. Shape (A,)."""
        self.tool.move(applied)
        self._path.append([joint.place for joint in self._joints.values()])
        pause = self._pauses[tick]
        for index, joint in self._joints.items():
            joint.paused = joint.paused or pause
            joint.move(float(applied[index]), self._shares[index])
        self._seen.append(self._show())

    def broken(self, commands: Array, ages_ns: npt.NDArray[np.int64], count: FuzzCount) -> list[tuple[int, str]]:
        """Ticks at which a command went further from the arm than the arm may make good, in words.

        Args:
            commands: Shape (T, A).
            ages_ns: Of the newest sample that the stream was shown so far [ns]. Shape (T,).
            count: Told of the largest true speed while samples were fresh.
        """
        found = list[tuple[int, str]]()
        if not self._joints:
            return found
        hz, fresh = self._limits.spec.control_hz, _long_fresh(ages_ns, self._limits.spec.control_hz)
        places = np.array([*self._path, [joint.place for joint in self._joints.values()]])
        for column, (index, most) in enumerate(self._fastest.items()):
            command, place = commands[:, index], places[:, column]
            gap = abs(command - place[:-1])
            before = np.append(0.0, abs(command[:-1] - place[1:-1]))
            reach = self._following.wait[index] + most * (ages_ns * hz / NS_PER_S)
            rounding = 4 * np.spacing(np.float64(max(abs(self._limits.low[index]), abs(self._limits.high[index]))))
            allowed = np.maximum(reach, before) * (1 + SLACK) + rounding
            for tick in np.flatnonzero(gap > allowed).tolist():
                words = f"command {command[tick]}, arm {place[tick]}, reach {reach[tick]}, gap before {before[tick]}"
                found.append((tick, f"arm: dimension {index}: {words}"))
            if most > 0.0 and fresh.any():
                count.fastest = max(count.fastest, float((abs(np.diff(place)) / most)[fresh].max()))
        return found


def _long_fresh(ages_ns: npt.NDArray[np.int64], hz: float) -> npt.NDArray[np.bool_]:
    """Ticks before which every sample was fresh for two seconds. Shape (T,)."""
    window = max(1, round(2.0 * hz))
    stale = np.concatenate([[0], np.cumsum(ages_ns > 0)])
    first = np.maximum(np.arange(len(ages_ns)) - window, 0)
    return np.asarray(stale[1:] == stale[first])
