"""Who takes part in an episode, as protocols: what each must be, and what it may also be.

What one may also be, its capabilities, is asked by `isinstance`, or by the function beside a declaration, and listed at
the end; `robot_rl/core/capabilities.py` finds those that were meant but misshapen.

Legend: `H` chunk length, `A` action dimension.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from robot_rl.core.episode import ActionChunk, EpisodeHeader, EpisodeResult, Observation, Outcome, Step
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, FloatArray, RobotSpec


class OperatorEvent(enum.StrEnum):
    """What an operator can ask for besides moving."""

    NONE = "none"
    END = "end"
    """End this episode and keep it."""
    REDO = "redo"
    """Throw this episode away and do it again."""
    STOP = "stop"
    """End the session; the episode is kept as aborted."""
    PAUSE = "pause"
    """Hold still, or go on."""


@dataclass(frozen=True)
class OperatorCommand:
    """One poll of an operator.

    Attributes:
        action: Takes over from the policy for this tick; None leaves the policy in control. Shape (A,).
        event: See `OperatorEvent`.
        outcome: The operator's label; with `END` it becomes the episode's.
    """

    action: FloatArray | None = None
    event: OperatorEvent = OperatorEvent.NONE
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Judgement:
    """A judge's view of the state an action led to: `done` with `success` is success, without it failure."""

    reward: float
    success: bool
    done: bool


class Robot(Protocol):
    """An arm with its cameras. A context manager: entering connects, leaving stops and disconnects.

    One whose time stands still between commands declares it (`SimulatedTime`); every other is run in real time.
    `hardware/contract.py` is the executable form of this contract.
    """

    spec: RobotSpec

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reset(self, seed: int) -> None:
        """Brings the robot to the start of an episode; a simulated one is the same for the same seed."""

    def observe(self, tick_ns: int) -> Observation:
        """The newest sample of every stream not after the tick.

        Raises:
            StaleSensor: A stream has none, or only one older than its limit.
        """

    def apply(self, action: FloatArray) -> FloatArray:
        """Sends an action and returns what was really executed. Shapes (A,)."""

    def stop(self) -> None:
        """Brings the robot to rest; safe to call at any time and more than once.

        It may be called from another thread while `reset` runs, and makes `reset` return soon.
        """


@runtime_checkable
class Judge(Protocol):
    """Says how well the task goes: a robot that can tell, as simulated ones can, or a task's own, see `TaskSettings`.

    Where there is none, a person labels through the operator.
    """

    def judge(self) -> Judgement:
        """Judges the state after the last applied action."""


@runtime_checkable
class Pictured(Protocol):
    """What a robot also is of which a bystander's view can be drawn."""

    def picture(self) -> AnyArray | None:
        """The scene now, for people to look at; None where this machine cannot draw. Shape (height, width, 3), RGB."""


@runtime_checkable
class Landmarked(Protocol):
    """What a robot also is that knows where things are, for pictures on machines that cannot draw the scene."""

    @property
    def landmarks_box(self) -> tuple[Sequence[float], Sequence[float]]:
        """Lowest and highest corner of the space in which landmarks move [m]."""

    def landmarks(self) -> Mapping[str, FloatArray]:
        """Where one to four things are now, by name [m]. Shapes (3,)."""


@runtime_checkable
class KeptAlive(Protocol):
    """What a robot also is that stops by itself when nobody says any more that its session goes on."""

    def keep_alive(self) -> None:
        """Says so; called by the session's own loop once per tick, before it looks. Returns at once."""


@runtime_checkable
class KeepsTarget(Protocol):
    """What a robot also is whose actions are displacements that it adds up to a target of its own."""

    def ahead(self) -> FloatArray:
        """How far the target is ahead of what is measured, action units; NaN where it keeps none. Shape (A,)."""


@runtime_checkable
class SimulatedTime(Protocol):
    """What a robot declares whose time stands still between two commands; see `stands_still`."""

    @property
    def simulated_time(self) -> bool:
        """Whether nothing moves, ages or happens until the next `apply`, however long that takes."""


def stands_still(robot: object) -> bool:
    """Whether a robot's time stands still between commands, so that it may be run as fast as it computes.

    Only a robot that declares it: everything else moves on by itself and is run in real time.

    Raises:
        RobotRLError: The declaration is neither True nor False, for example a method that lacks `@property`.
    """
    if not isinstance(robot, SimulatedTime):
        return False
    return _declared("simulated_time", robot, robot.simulated_time)


@runtime_checkable
class Watched(Protocol):
    """What a robot declares whose own side compares what it was told with what it shows, as an arm node does."""

    @property
    def watched(self) -> bool:
        """Whether it does."""


def is_watched(robot: object) -> bool:
    """Whether somebody between here and the robot notices that it does not follow.

    Raises:
        RobotRLError: The declaration is neither True nor False.
    """
    return isinstance(robot, Watched) and _declared("watched", robot, robot.watched)


def _declared(name: str, whom: object, value: object) -> bool:
    """A declaration that is taken for what it says, never for whether it is empty."""
    if not isinstance(value, bool):
        raise RobotRLError(
            f"{name} of {type(whom).__name__} is {value!r}, wanted True or False: an attribute or a property"
        )
    return value


class Policy(Protocol):
    """Maps recent observations to a chunk of actions."""

    spec: RobotSpec
    observation_count: int
    """How many of the newest observations `act` reads."""
    fingerprint: str
    """Hash of the weights, recorded with every episode."""

    def reset(self, seed: int) -> None:
        """Forgets the last episode and seeds the sampling noise."""

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Chunk whose row 0 is for the newest observation's tick.

        Args:
            history: Oldest first, at least one; a policy repeats the oldest while there are too few.
        """


@runtime_checkable
class ExecutesRows(Protocol):
    """What a policy also is that says how much of a chunk to execute."""

    @property
    def execute_horizon(self) -> int | None:
        """Rows of a chunk to execute before a newer chunk should replace it; None for all."""


@runtime_checkable
class Traced(Protocol):
    """What a policy also is that knows where its weights come from."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Dataset, snapshot and software version, as a checkpoint or a bundle says."""


@runtime_checkable
class RemembersChains(Protocol):
    """What a policy also is that can tell by which denoising chains it decided."""

    def take_chains(self) -> Sequence[Any]:
        """This episode's chains (`policies.exploring_policy.RememberedChain`) in order, which are then forgotten."""


class Operator(Protocol):
    """A person, a device or a script that drives, corrects and labels. A context manager, as `Robot` is."""

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reset(self, seed: int) -> None:
        """Called before each episode."""

    def poll(self, observation: Observation) -> OperatorCommand:
        """Called once per tick; must return at once."""


@runtime_checkable
class InPerson(Protocol):
    """What an operator declares through whom a person acts; see `is_person`."""

    @property
    def in_person(self) -> bool:
        """Whether a person has to see and move at the robot's own rate."""


@runtime_checkable
class SeesApplied(Protocol):
    """What an operator also is who takes over from what the robot was last told, not from what it shows.

    So a gripper that no stream shows stays closed.
    """

    def see_applied(self, applied: FloatArray) -> None:
        """Called after every command with what was executed. Shape (A,)."""


@runtime_checkable
class DrivesAlways(Protocol):
    """What an operator declares who never lets a policy drive; see `drives_always`."""

    @property
    def drives_always(self) -> bool:
        """Whether every tick has an action of theirs."""


@runtime_checkable
class Notable(Protocol):
    """What an operator also is who can be shown a line of text beside what they see."""

    def note(self, message: str) -> None:
        """Shows it until the next one."""


def drives_always(operator: object) -> bool:
    """Whether an operator leaves a policy nothing to do.

    Raises:
        RobotRLError: The declaration is neither True nor False.
    """
    return isinstance(operator, DrivesAlways) and _declared("drives_always", operator, operator.drives_always)


def is_person(operator: object) -> bool:
    """Whether a person acts through an operator, for whom episodes must run in real time; a script declares nothing.

    Raises:
        RobotRLError: The declaration is neither True nor False.
    """
    return isinstance(operator, InPerson) and _declared("in_person", operator, operator.in_person)


class Clock(Protocol):
    """Time as an argument. Nanoseconds that never go back."""

    def now_ns(self) -> int:
        """Current time [ns]."""

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Returns at the deadline, or at once if it has passed."""


class EpisodeSink(Protocol):
    """Where a running episode goes: an episode writer, a list in memory."""

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """Starts an episode."""

    def append(self, step: Step) -> None:
        """Takes one step; must not block for longer than a fraction of a tick."""

    def end(self, result: EpisodeResult) -> None:
        """Hands the episode over to be kept; returns at once."""

    def discard(self) -> None:
        """Throws the running episode away."""


ROBOT_CAPABILITIES = (SimulatedTime, Watched, KeepsTarget, KeptAlive, Judge, Pictured, Landmarked)
"""What a robot may also be; `hardware.safety.limits.KeepsWithin` besides, which knows limits."""
OPERATOR_CAPABILITIES = (InPerson, DrivesAlways, SeesApplied, Notable)
POLICY_CAPABILITIES = (ExecutesRows, Traced, RemembersChains)
