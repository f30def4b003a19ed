"""How a follower arm's joints follow a leader arm's: mapping, alignment, and a takeover without a jump."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hardware.operators.layout import (
    LayoutError,
    dimension_index,
    dimension_name,
    entry_of,
    is_finite,
    require_element,
    require_numbers,
    section_for,
)
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, FloatArray, RobotSpec


@dataclass(frozen=True, kw_only=True)
class Following:
    """A joint of the follower that goes where a joint of the leader is.

    Attributes:
        dimension: Name or index of the action dimension.
        joint: Name of the leader's joint.
        scale: Action units per unit of the leader's joint; negative where it turns the other way.
        offset: Action units at the leader's zero.
        within: Largest difference at which control may be taken over, action units; None is the operator's.
        stream: State stream that shows where the follower is.
        index: Element of that stream, in C order.
    """

    dimension: str | int
    joint: str
    scale: float = 1.0
    offset: float = 0.0
    within: float | None = None
    stream: str
    index: int

    def check(self) -> None:
        """Refuses a mapping that cannot be turned round.

        Raises:
            LayoutError: A scale of 0, or a number that is not finite.
        """
        if not (is_finite(self.scale) and is_finite(self.offset) and self.scale != 0.0):
            raise LayoutError(
                f"operator.layouts entry of '{self.dimension}': scale {self.scale}, offset {self.offset}; wanted "
                "finite numbers, and a scale that is not 0"
            )
        if self.within is not None and not (is_finite(self.within) and self.within > 0.0):
            raise LayoutError(
                f"operator.layouts entry of '{self.dimension}': within is {self.within}, wanted a number above 0; "
                "without a bound the robot would jump to the leader"
            )


@dataclass(frozen=True, kw_only=True)
class FollowingSwitch:
    """A two-state dimension, such as a gripper, that follows a joint of the leader.

    Attributes:
        dimension: Name or index of the action dimension.
        joint: Name of the leader's joint.
        first: Value while the joint is below `threshold`.
        second: Value while it is above.
        threshold: In the leader's units.
        margin: The joint must be this far past the threshold to switch, so that it does not flutter.
    """

    dimension: str | int
    joint: str
    first: float
    second: float
    threshold: float
    margin: float = 0.0

    def check(self) -> None:
        """Refuses a switch that could not be told either way.

        Raises:
            LayoutError: A value that is no finite number.
        """
        require_numbers(
            self.dimension, first=self.first, second=self.second, threshold=self.threshold, margin=self.margin
        )


class Gap(NamedTuple):
    """A joint that differs too much for control to be taken over.

    Attributes:
        name: The action dimension's.
        joint: The leader's.
        move: How far the leader's joint must still be moved, its units.
    """

    name: str
    joint: str
    move: float


@dataclass(frozen=True)
class LeaderLayout:
    """Which joint of the leader each action dimension of one robot follows."""

    following: tuple[Following, ...]
    switching: tuple[FollowingSwitch, ...]

    @classmethod
    def for_spec(cls, spec: RobotSpec, layouts: Mapping[str, Any]) -> LeaderLayout:
        """The layout written for a robot, checked against its spec.

        Args:
            spec: The robot's.
            layouts: Robot name to `following` and `switching`, each a list of mappings.

        Raises:
            LayoutError: There is none for this robot, or it does not fit.
        """
        if ActionKind.RATE in spec.action_kinds:
            rate = dimension_name(spec, spec.action_kinds.index(ActionKind.RATE))
            raise LayoutError(
                f"a leader arm gives positions, but '{rate}' of '{spec.name}' is a displacement per tick; "
                "use operator=spacemouse or operator=gamepad"
            )
        written = section_for(spec, layouts)
        layout = cls(
            tuple(entry_of(Following, each) for each in written.get("following") or ()),
            tuple(entry_of(FollowingSwitch, each) for each in written.get("switching") or ()),
        )
        layout.check(spec)
        return layout

    @property
    def entries(self) -> tuple[Following | FollowingSwitch, ...]:
        """Everything that follows."""
        return (*self.following, *self.switching)

    @property
    def joints(self) -> tuple[str, ...]:
        """Every joint of the leader that is needed, once."""
        return tuple(dict.fromkeys(each.joint for each in self.entries))

    def check(self, spec: RobotSpec) -> None:
        """Refuses a robot that this layout cannot drive.

        Raises:
            LayoutError: A dimension that is not there, driven twice, or driven by nothing.
        """
        driven = [dimension_index(spec, each.dimension) for each in self.entries]
        for index in range(spec.action.size):
            if driven.count(index) != 1:
                name, what = (
                    dimension_name(spec, index),
                    "nothing drives" if index not in driven else "two entries drive",
                )
                raise LayoutError(
                    f"{what} '{name}' of '{spec.name}'; give operator.layouts.{spec.name} one entry for it"
                )
        for each in self.entries:
            each.check()
        for each in self.following:
            require_element(spec, each.dimension, each.stream, each.index)


class LeaderFollowing:
    """The follower's targets, from the leader's joints.

    Args:
        spec: The robot's.
        layout: Which joint of the leader each action dimension follows, and how.
        align_within: Largest difference at which control may be taken over, action units.
        ramp_s: Over which the difference that remains is taken back after a takeover [s].
    """

    def __init__(self, spec: RobotSpec, layout: LeaderLayout, align_within: float, ramp_s: float) -> None:
        if not all(is_finite(each) and each > 0.0 for each in (align_within, ramp_s)):
            raise LayoutError(f"operator.align_within is {align_within}, ramp_s is {ramp_s}; wanted numbers above 0")
        self._spec = spec
        self._low, self._high = spec.action.bounds()
        self._following = [(dimension_index(spec, each.dimension), each) for each in layout.following]
        self._switching = [(dimension_index(spec, each.dimension), each) for each in layout.switching]
        self._align_within = align_within
        self._ramp_ns = round(ramp_s * NS_PER_S)
        self._is_second = [False] * len(self._switching)
        self._offset = np.zeros(spec.action.shape)
        self._since_ns = 0

    def seen(self, observation: Observation, otherwise: FloatArray) -> FloatArray:
        """Where the follower is seen to be. Shapes (A,).

        Args:
            observation: This tick's.
            otherwise: What to take for switches, which it does not show.
        """
        place = otherwise.astype(np.float64)
        for index, each in self._following:
            place[index] = float(observation.values[each.stream].flat[each.index])
        return place

    def targets(self, leader: Mapping[str, float]) -> FloatArray:
        """Where the leader is, in the follower's action units. Shape (A,), float64.

        Args:
            leader: Joint to position, every joint of the layout.
        """
        clipped: FloatArray = np.clip(self._reached(leader), self._low, self._high)
        return clipped

    def _reached(self, leader: Mapping[str, float]) -> FloatArray:
        """The same, also where the follower cannot go. Shape (A,), float64."""
        target = np.zeros(self._spec.action.shape)
        for index, each in self._following:
            target[index] = each.scale * leader[each.joint] + each.offset
        for place, (index, switch) in enumerate(self._switching):
            edge = switch.threshold + (-switch.margin if self._is_second[place] else switch.margin)
            self._is_second[place] = leader[switch.joint] > edge
            target[index] = switch.second if self._is_second[place] else switch.first
        return target

    def gaps(self, leader: Mapping[str, float], follower: FloatArray) -> list[Gap]:
        """Joints too far from the follower for a takeover; a leader beyond the follower's range is not at its end.

        Args:
            leader: Joint to position.
            follower: What the follower was last told, or where it is seen. Shape (A,).
        """
        away = follower - self._reached(leader)
        found = []
        for index, each in self._following:
            if not abs(away[index]) <= (self._align_within if each.within is None else each.within):
                found.append(Gap(dimension_name(self._spec, index), each.joint, float(away[index]) / each.scale))
        for index, switch in self._switching:
            wants_second = abs(follower[index] - switch.second) < abs(follower[index] - switch.first)
            if away[index] != 0.0:
                edge = switch.threshold + (switch.margin if wants_second else -switch.margin)
                found.append(Gap(dimension_name(self._spec, index), switch.joint, edge - leader[switch.joint]))
        return found

    def engage(self, leader: Mapping[str, float], follower: FloatArray, now_ns: int) -> None:
        """Takes over: the next actions start from the follower and ramp to the leader.

        Args:
            leader: Joint to position, aligned.
            follower: As in `gaps`.
            now_ns: Tick [ns].
        """
        self._offset = follower - self.targets(leader)
        for index, _ in self._switching:
            self._offset[index] = 0.0
        self._since_ns = now_ns

    def action(self, leader: Mapping[str, float], now_ns: int) -> FloatArray:
        """The action for this tick. Shape (A,), the action's dtype."""
        share = min(1.0, max(0.0, (now_ns - self._since_ns) / self._ramp_ns))
        left = 1.0 - share * share * (3.0 - 2.0 * share)
        action = np.clip(self.targets(leader) + left * self._offset, self._low, self._high)
        return action.astype(self._spec.action.dtype)
