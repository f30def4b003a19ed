"""The command filter of one robot with what it remembers from tick to tick, for whoever commands the robot directly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hardware.safety.anchor import Anchor
from hardware.safety.filter import filter_command
from hardware.safety.following import Follower
from hardware.safety.limits import CommandLimits
from hardware.safety.plausible_view import PlausibleView
from hardware.safety.state import FilterReason, FilterResult, FilterState, OperatorState
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import KeepsTarget
from robot_rl.core.specs import FloatArray


class FilteredCommands:
    """Holds every command within the limits, whatever is asked for; `robot_rl.runtime.episode_loop` calls it.

    Args:
        limits: The robot's.
    """

    reason_names: Mapping[int, str] = {int(reason): str(reason.name).lower() for reason in FilterReason if reason}

    def __init__(self, limits: CommandLimits) -> None:
        self._limits = limits
        self._state: FilterState | None = None

    def reset(self, observation: Observation) -> None:
        """Starts at rest where the robot is seen to be; a latched fault stays until the command is started anew."""
        self._begin(self._limits.start_pose(observation))

    def _begin(self, pose: FloatArray) -> None:
        latched = FilterReason.NONE if self._state is None else self._state.fault
        self._state = replace(FilterState.at(pose), fault=latched)

    def __call__(
        self, requested: FloatArray | None, observation: Observation | None, dt_s: float, operator_alive: bool
    ) -> tuple[FloatArray, int]:
        """The command to apply, shape (A,), and the reasons for changing the request."""
        if self._state is None:
            raise RobotRLError("the command filter was used before an episode's first observation: call reset first")
        allowed = OperatorState(deadman=operator_alive)
        spec = self._limits.spec
        result = filter_command(requested, self._state, observation, allowed, dt_s, self._limits, spec)
        self._state = result.state
        return result.applied, int(result.reasons)

    @property
    def doubt(self) -> str:
        """Why the robot may not be moved yet, in words; empty if it may."""
        return ""

    @property
    def at_rest(self) -> bool:
        """Whether the last command left nothing moving."""
        return self._state is None or self._state.at_rest

    @property
    def fault(self) -> str | None:
        """The latched fault in words, None while all is well."""
        if self._state is None or not self._state.fault:
            return None
        return " and ".join(name for bit, name in self.reason_names.items() if self._state.fault & bit)


class ClosedLoopCommands(FilteredCommands):
    """The same for a robot that moves by itself and that nobody else watches: what it shows is compared with commands.

    It begins only where several samples agree that the robot is, believes no sample that no body can have reached, and
    waits for a robot that does not follow.

    Args:
        limits: The robot's, with `following`.
        robot: Asked how far it is behind, where it keeps a target of its own.

    Raises:
        LimitError: See `CommandLimits.require_following`.
    """

    def __init__(self, limits: CommandLimits, robot: object = None) -> None:
        super().__init__(limits)
        limits.require_following(limits.spec.control_hz)
        self._robot = robot if isinstance(robot, KeepsTarget) else None
        self._anchor, self._view, self._follower = Anchor(limits), PlausibleView(limits.spec), Follower(limits)
        self._problem = ""
        self._begun = False

    def reset(self, observation: Observation) -> None:
        """Looks where the robot is; called until the first command."""
        if self._begun:
            self._begun = False
            self._anchor.forget()
            self._view.forget()
        seen = self._believed(observation)
        if seen is not None:
            self._anchor.saw(seen)
        if self._anchor.pose is not None:
            self._begin(self._anchor.pose)
            self._follower.restart()

    def __call__(
        self, requested: FloatArray | None, observation: Observation | None, dt_s: float, operator_alive: bool
    ) -> tuple[FloatArray, int]:
        """The command to apply, shape (A,), no further from the robot than it may be, and reasons."""
        self._begun = True
        before, seen = self._state, None if observation is None else self._believed(observation)
        applied, reasons = super().__call__(requested, seen, dt_s, operator_alive)
        if before is None or self._state is None:
            return applied, reasons
        ahead = None if self._robot is None else self._robot.ahead()
        given = FilterResult(applied, FilterReason(reasons), self._state)
        result = self._follower.check(before, given, requested, seen, ahead)
        self._state = result.state
        self._problem = self._problem or self._follower.problem
        return result.applied, int(result.reasons)

    def _believed(self, observation: Observation) -> Observation | None:
        """The observation less what cannot be true; None if nothing is left."""
        try:
            seen = self._view.seen(observation)
        except StaleSensor:
            return None
        self._problem = self._problem or self._view.fault
        return None if self._view.fault else seen

    @property
    def doubt(self) -> str:
        """Why nobody knows for certain where the robot is, in words; empty if somebody does."""
        return self._view.fault or self._anchor.problem

    @property
    def at_rest(self) -> bool:
        """Whether the last command left nothing moving, and the robot where it may be left."""
        return super().at_rest and self._follower.near

    @property
    def fault(self) -> str | None:
        """The latched fault in words, the robot's own before the filter's; None while all is well."""
        return self._problem or super().fault
