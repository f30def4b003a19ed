"""What the command filter says and remembers: its reasons, and its state from one tick to the next."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robot_rl.core.specs import FloatArray


class FilterReason(enum.IntFlag):
    """Why a command was changed; 0 if it was not. Stored with every tick as `Step.filter_reasons`."""

    NONE = 0
    NOT_FINITE = 1 << 0
    """The request held NaN or infinity."""
    SHAPE = 1 << 1
    """The request was not an array of A numbers."""
    MISSING = 1 << 2
    """There was nothing to execute."""
    DEADMAN = 1 << 3
    """The deadman switch was open."""
    DISABLED = 1 << 4
    """The lifecycle does not allow motion."""
    STALE_STATE = 1 << 5
    """A state stream was missing, unreadable or too old."""
    STALE_CAMERA = 1 << 6
    """A camera was missing or too old."""
    CLOCK = 1 << 7
    """Time stood still, went back, jumped, or the loop ran ahead of the nominal rate."""
    RAMPED_STOP = 1 << 8
    """A stop is under way that must come to rest before anything else is obeyed."""
    FAULT = 1 << 9
    """A fault is latched; see `FilterState.fault` and `clear_fault`."""
    WORKSPACE = 1 << 10
    """Outside the box, or so fast towards its wall that it could not be stopped there."""
    STEP = 1 << 11
    VELOCITY = 1 << 12
    ACCELERATION = 1 << 13
    JERK = 1 << 14
    FOLLOWING = 1 << 15
    """The arm was too far behind: the command waited for it, or was brought nearer."""


class OperatorState(NamedTuple):
    """Whether motion is allowed.

    Attributes:
        deadman: The switch is held, or the robot needs none.
        enabled: The lifecycle allows motion: active, not paused.
    """

    deadman: bool = True
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class FilterState:
    """What the filter remembers between two ticks; immutable. Tuples have length A.

    Attributes:
        position: Last command of POSITION and BINARY dimensions, before rounding to the action's dtype.
        step: Displacement made by the last command, action units per tick; velocity times the period.
        change: Difference of the last two steps; acceleration times the period squared.
        target: What the last command should have been; NaN if nothing could be executed.
        starved_s: For how long there has been nothing to execute [s].
        blind_s: For how long the age of some stream has been unknown [s].
        ahead_s: How far the calls have run ahead of the nominal rate [s].
        started: Whether a command has been filtered; the first has no meaningful dt.
        stopping: A ramped stop is under way.
        fault: Reasons of the latched fault; 0 without one.
    """

    position: tuple[float, ...]
    step: tuple[float, ...]
    change: tuple[float, ...]
    target: tuple[float, ...]
    starved_s: float = 0.0
    blind_s: float = 0.0
    ahead_s: float = 0.0
    started: bool = False
    stopping: bool = False
    fault: FilterReason = FilterReason.NONE

    @classmethod
    def at(cls, pose: FloatArray) -> FilterState:
        """At rest at a pose in action units, shape (A,): the robot's present one, see `CommandLimits.start_pose`.

        The first command, however far away, is then approached within the limits. RATE entries are not used.
        """
        position = tuple(map(float, pose))
        if not all(map(math.isfinite, position)):
            raise ValueError(f"pose is {pose}, wanted finite numbers: where the robot is now")
        still = (0.0,) * len(position)
        return cls(position, still, still, (math.nan,) * len(position))

    @property
    def at_rest(self) -> bool:
        """Whether no dimension moves."""
        return not any(self.step) and not any(self.change)


class FilterResult(NamedTuple):
    """A filtered command.

    Attributes:
        applied: The command to send. Shape (A,), the action's dtype.
        reasons: Why it differs from the request; 0 if and only if it does not.
        state: For the next call.
    """

    applied: FloatArray
    reasons: FilterReason
    state: FilterState


def clear_fault(state: FilterState) -> FilterState:
    """The state without its latched fault. Only a person's explicit act may call this."""
    return dataclasses.replace(state, fault=FilterReason.NONE, blind_s=0.0, starved_s=0.0)


def reason_names(reasons: int) -> Sequence[str]:
    """Names of the reasons in a bit set, for counters and for people."""
    return [str(reason.name).lower() for reason in FilterReason if reason & reasons]
