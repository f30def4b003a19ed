"""What is done with a robot to measure its latencies: a small wiggle of one action dimension, and looking at pictures.

Legend: `A` action dimension, `R` rows of a wiggle, `N` samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hardware.latency import Stamps
from hardware.safety.command_filter import FilteredCommands
from hardware.safety.dimensions import dimension_name
from hardware.safety.limits import CommandLimits, MeasuredAxis
from robot_rl.core.clock import TickGrid, prompt_thread
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Clock, Robot
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray, FloatArray

POLL_NS = 8_000_000
"""Distance of two looks between ticks: about that of the samples of joints that are published 100 times a second."""
SHARE_OF_LIMITS = 0.8
"""Of each limit that a wiggle uses, so that the command filter has nothing to change."""
LARGEST = {"rad": 0.05, "m": 0.02, "cm": 2.0, "deg": 3.0}
"""Amplitude by unit of the measured position where nobody says another."""
SHARE_OF_RANGE = 0.02
"""Amplitude in other units."""


class CannotWiggle(RobotRLError):
    """A dimension by which command latency cannot be measured."""


@dataclass(frozen=True)
class Wiggle:
    """A motion around where the robot is.

    Attributes:
        dimension: The one that moves.
        measured: Where its position is seen.
        amplitude: Largest distance from the start, action units.
        rows: What to command, in action units. Shape (R, A).
    """

    dimension: int
    measured: MeasuredAxis
    amplitude: float
    rows: FloatArray


class Series(NamedTuple):
    """A wiggle as it went. Commanded and measured positions in measured units."""

    sent_ns: Stamps
    commanded: FloatArray
    stamps_ns: Stamps
    measured: FloatArray

    def split(self, parts: int) -> list[Series]:
        """As many wiggles of equal length, one after the other."""
        edges = np.linspace(0, len(self.sent_ns), parts + 1).astype(int)
        series = []
        for first, end in itertools.pairwise(edges.tolist()):
            rows = slice(first, end)
            inside = (self.stamps_ns >= self.sent_ns[first]) & (self.stamps_ns <= self.sent_ns[end - 1])
            series.append(
                Series(self.sent_ns[rows], self.commanded[rows], self.stamps_ns[inside], self.measured[inside])
            )
        return series


class Seen(NamedTuple):
    """One picture: the time shown in it, its stamp, and when it was there [ns]."""

    shown_ns: int
    stamp_ns: int
    arrival_ns: int


def movable(limits: CommandLimits) -> list[str]:
    """Names of the dimensions that can be wiggled: their position is measured, and they are not binary."""
    return [
        limits.spec.action.names[index] if limits.spec.action.names else str(index)
        for index, kind in enumerate(limits.spec.action_kinds)
        if kind is not ActionKind.BINARY and index in limits.measured and limits.axes[index].max_step > 0.0
    ]


def plan_wiggle(
    limits: CommandLimits, start: FloatArray, dimension: int, amplitude: float | None, motion: FloatArray
) -> Wiggle:
    """A wiggle inside every limit of the command filter.

    Args:
        limits: The robot's.
        start: The command that keeps it where it is. Shape (A,).
        dimension: To move.
        amplitude: Largest distance from the start, action units; None for a small one. Limits make it smaller.
        motion: Within +-1, from 0 to 0. Shape (R,).

    Raises:
        CannotWiggle: It is binary or not measured, or there is no room to move.
    """
    kind, where = limits.spec.action_kinds[dimension], dimension_name(limits.spec, dimension)
    measured = limits.measured.get(dimension)
    if kind is ActionKind.BINARY or measured is None:
        why = "is binary" if kind is ActionKind.BINARY else "is not measured: limits.measured does not name it"
        raise CannotWiggle(f"{where} {why}; choose dimension= one of {', '.join(movable(limits)) or 'none'}")
    room = _room(limits, float(start[dimension]), dimension, motion)
    if amplitude is not None and not amplitude > 0.0:
        raise CannotWiggle(f"amplitude is {amplitude}, wanted a number above 0")
    wanted = _small(limits, dimension, measured) if amplitude is None else amplitude
    chosen = min(wanted, room)
    if chosen < 1e-3 * wanted:
        raise CannotWiggle(f"{where} has no room to move from {start[dimension]:g}: drive it away from its limit first")
    rows = np.tile(start.astype(np.float64), (len(motion), 1))
    if kind is ActionKind.RATE:
        rows[:, dimension] = chosen * np.diff(motion, append=motion[-1])
    else:
        rows[:, dimension] += chosen * motion
    return Wiggle(dimension, measured, chosen, rows)


def _room(limits: CommandLimits, start: float, dimension: int, motion: FloatArray) -> float:
    """Largest amplitude that breaks no limit, with some to spare."""
    hz = limits.spec.control_hz
    largest = [
        (limits.max_step[dimension], _peak(motion, 1)),
        (limits.max_velocity[dimension], _peak(motion, 1) * hz),
        (limits.max_acceleration[dimension], _peak(motion, 2) * hz**2),
        (limits.max_jerk[dimension], _peak(motion, 3) * hz**3),
    ]
    room = SHARE_OF_LIMITS * min(limit / needed for limit, needed in largest)
    low, high = limits.low[dimension], limits.high[dimension]
    if limits.spec.action_kinds[dimension] is ActionKind.RATE:
        return min(room, SHARE_OF_LIMITS * min(high, -low) / _peak(motion, 1))
    return min(room, high - start, start - low)


def _peak(motion: FloatArray, order: int) -> float:
    return float(np.abs(np.diff(motion, order, prepend=[0.0] * order, append=[0.0] * order)).max())


def _small(limits: CommandLimits, dimension: int, measured: MeasuredAxis) -> float:
    units = limits.spec.observations[measured.stream].unit.split(",")
    unit = units[measured.index] if measured.index < len(units) else units[0]
    if unit in LARGEST:
        return abs(LARGEST[unit] / measured.scale)
    return SHARE_OF_RANGE * (limits.high[dimension] - limits.low[dimension])


def run_wiggle(robot: Robot, command_filter: FilteredCommands, clock: Clock, planned: Wiggle) -> Series:
    """Moves the robot and watches it, through the command filter like every other motion.

    Args:
        robot: Entered and reset.
        command_filter: Reset to where the robot is.
        clock: The one that the robot's stamps are on, or any whose offset the robot knows.
        planned: See `plan_wiggle`.

    Raises:
        RobotRLError: The filter latched a fault, or the robot refused; it is at rest or stops by itself.
    """
    watch = _Watch(robot, planned.measured)
    # An arm node takes a tick that comes 100 ms late for a lost session.
    with prompt_thread():
        sent_ns, applied = _send(robot, command_filter, clock, planned, watch)
    commanded = applied * planned.measured.scale
    if robot.spec.action_kinds[planned.dimension] is ActionKind.RATE:
        # A displacement is where the next row begins.
        commanded = np.concatenate([[0.0], np.cumsum(commanded)[:-1]])
    return Series(sent_ns, commanded, np.array(watch.stamps_ns, np.int64), np.array(watch.places))


def _send(
    robot: Robot, command_filter: FilteredCommands, clock: Clock, planned: Wiggle, watch: _Watch
) -> tuple[Stamps, FloatArray]:
    """When each row was sent [ns], and what the arm made of the dimension that moves. Shapes (R,)."""
    grid = TickGrid(clock, robot.spec.tick_ns)
    sent_ns, applied = [], []
    previous_ns: int | None = None
    for row in planned.rows:
        tick = grid.wait()
        observation = watch.look(tick.stamp_ns)
        now_ns = clock.now_ns()
        elapsed_ns = robot.spec.tick_ns if previous_ns is None else now_ns - previous_ns
        command, _ = command_filter(row, observation, elapsed_ns / NS_PER_S, True)
        sent_ns.append(now_ns)
        applied.append(float(robot.apply(command)[planned.dimension]))
        previous_ns = now_ns
        if command_filter.fault is not None:
            raise RobotRLError(f"the command filter latched a fault while wiggling: {command_filter.fault}")
        _watch_until(grid.start_ns + (tick.index + 1) * grid.tick_ns, clock, watch)
    return np.array(sent_ns, np.int64), np.array(applied)


def _watch_until(deadline_ns: int, clock: Clock, watch: _Watch) -> None:
    while clock.now_ns() + 2 * POLL_NS < deadline_ns:
        clock.sleep_until_ns(clock.now_ns() + POLL_NS)
        watch.look(clock.now_ns())


class _Watch:
    """Gathers every distinct sample of one measured position."""

    def __init__(self, robot: Robot, measured: MeasuredAxis) -> None:
        self.stamps_ns: list[int] = []
        self.places: list[float] = []
        self._robot, self._measured = robot, measured

    def look(self, tick_ns: int) -> Observation | None:
        """What the robot sees, None while a stream is stale."""
        observation = _observed(self._robot, tick_ns)
        if observation is None:
            return None
        place = self._measured.read(observation)
        stamp_ns = observation.stamp_ns - observation.age_ns[self._measured.stream]
        if place is not None and (not self.stamps_ns or stamp_ns > self.stamps_ns[-1]):
            self.stamps_ns.append(stamp_ns)
            self.places.append(place)
        return observation


def watch_pictures(
    robot: Robot,
    streams: Sequence[str],
    clock: Clock,
    read_stamp: Callable[[AnyArray], int | None],
    pictures: int,
    longest_s: float,
) -> dict[str, list[Seen]]:
    """Looks at cameras until enough pictures of each have shown the time, or for a while.

    Args:
        robot: Entered; it is not moved.
        streams: Camera streams.
        clock: The one that shown times and stamps are on.
        read_stamp: The time that a picture shows [ns]; None if it shows none.
        pictures: Of each camera that are enough.
        longest_s: Longest time to look [s].

    Returns:
        Stream to its pictures in which the time could be read.
    """
    seen: dict[str, list[Seen]] = {name: [] for name in streams}
    newest_ns = dict.fromkeys(streams, 0)
    for observation in _looks(robot, clock, longest_s):
        arrival_ns = clock.now_ns()
        for name in streams:
            stamp_ns = observation.stamp_ns - observation.age_ns[name]
            if stamp_ns <= newest_ns[name]:
                continue
            newest_ns[name] = stamp_ns
            shown_ns = read_stamp(observation.values[name])
            if shown_ns is not None:
                seen[name].append(Seen(shown_ns, stamp_ns, arrival_ns))
        if all(len(each) >= pictures for each in seen.values()):
            break
    return seen


def _looks(robot: Robot, clock: Clock, longest_s: float) -> Iterator[Observation]:
    until_ns = clock.now_ns() + round(longest_s * NS_PER_S)
    while clock.now_ns() < until_ns:
        observation = _observed(robot, clock.now_ns())
        if observation is not None:
            yield observation
        clock.sleep_until_ns(clock.now_ns() + POLL_NS)


def _observed(robot: Robot, tick_ns: int) -> Observation | None:
    """What the robot sees, None while a stream is stale."""
    try:
        return robot.observe(tick_ns)
    except StaleSensor:
        return None
