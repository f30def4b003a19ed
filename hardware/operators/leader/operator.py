"""A person with a leader arm: the robot's joints follow its joints, from the moment that both agree."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np

from hardware.operators.control import Control, Wish
from hardware.operators.leader.following import Gap, LeaderFollowing
from hardware.operators.leader.watch import LeaderWatch
from hardware.operators.terminal.key_events import SHORT_LEGEND, TAKE_OVER_KEY, KeyEvents, say_on_stderr
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.core.specs import NS_PER_S, FloatArray, RobotSpec

TELL_PERIOD_NS = NS_PER_S // 2
TURN_MARGIN_RAD = 0.5
"""A joint that is off by this little besides whole turns has been counted wrong rather than moved."""


class LeaderReading(NamedTuple):
    """Where the leader is now.

    Attributes:
        positions: Joint to position; empty while there is a problem.
        problem: Why it cannot be followed, in words.
        stamp_ns: When it was there, on any clock that goes on [ns]; None is now.
    """

    positions: Mapping[str, float]
    problem: str = ""
    stamp_ns: int | None = None


class Leader(Protocol):
    """A leader arm, heard while entered."""

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reading(self) -> LeaderReading:
        """Where it is now; never waits."""


@dataclass
class _Episode:
    """What one episode adds up to, besides who drives.

    Attributes:
        followed: Leader and follower agreed, so that the follower goes where the leader goes; before that, one who
            drives holds still.
        given: The last action that was asked for. Shape (A,).
        held: Where the follower waits while the leader is aligned anew. Shape (A,).
    """

    followed: bool = False
    given: FloatArray | None = None
    held: FloatArray | None = None


class LeaderArmOperator:
    """Drives by a leader arm. A context manager that hears the leader and the keyboard while entered.

    Tab asks for control: it is refused, and how far each joint is off is shown, until leader and follower agree; then
    the follower ramps from its last command to the leader, and follows. With a policy (`correcting`) Tab also gives
    back. After a pause both must agree anew. A leader that falls silent gives no action and pauses the robot. One whose
    reading jumps, as no hand moves it, is lost: the robot holds still where it was told to be, until the leader's
    readings agree with each other and with the robot again.

    Args:
        spec: The robot's.
        leader: The leader arm.
        following: How the robot follows it.
        keys: The keyboard, which labels, pauses, stops and takes over.
        watch: Tells whether the leader moves as an arm can.
        name: Who drives; recorded with every episode.
        correcting: Whether a policy drives until the operator takes over.
        say: Tells the person something.
    """

    in_person = True
    """A person cannot follow a simulation that runs as fast as it can."""

    def __init__(
        self,
        spec: RobotSpec,
        leader: Leader,
        following: LeaderFollowing,
        keys: KeyEvents,
        watch: LeaderWatch,
        name: str = "leader_arm",
        correcting: bool = False,
        say: Callable[[str], None] = say_on_stderr,
    ) -> None:
        self.name = name
        self._spec = spec
        self._leader = leader
        self._following = following
        self._keys = keys
        self._watch = watch
        self._control = Control(correcting, starts_by_motion=False)
        self._say = say
        self._entered = contextlib.ExitStack()
        self._episode = _Episode()
        self._problem = ""
        self._lost = ""
        self._lost_told = False
        self._told_ns = -TELL_PERIOD_NS

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._leader)
            stack.enter_context(self._keys)
            self._say(f"{self.name}: {self._leader.name}; {TAKE_OVER_KEY.capitalize()} takes control. {SHORT_LEGEND}")
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def reset(self, seed: int) -> None:
        """Forgets the last episode and what was typed since; a wish to stop is not forgotten."""
        self._episode = _Episode()
        self._control.reset(self._keys.wishes())

    def see_applied(self, applied: FloatArray) -> None:
        """Told of every command that was executed; taking over starts from the last one. Shape (A,)."""
        self._control.see_applied(applied)

    def poll(self, observation: Observation) -> OperatorCommand:
        """Where the leader is and what was typed since the last tick; never waits."""
        reading = self._leader.reading()
        self._notice(reading)
        for wish in self._keys.wishes():
            self._wish(wish)
        wish = self._control.next_wish(lost=bool(reading.problem))
        if wish.event is OperatorEvent.PAUSE:
            self._let_go()
        action = self._judged_action(reading, observation)
        self._episode.given = action if action is not None else self._episode.given
        return wish.command(action)

    def _notice(self, reading: LeaderReading) -> None:
        """Losing and hearing the leader again."""
        if reading.problem and not self._problem:
            self._say(f"{self.name}: {reading.problem}")
            self._let_go()
        elif self._problem and not reading.problem:
            self._say(f"{self.name}: {self._leader.name} is back" + ("; Space goes on" if self._control.paused else ""))
        self._problem = reading.problem

    def _wish(self, wish: Wish) -> None:
        drove = self._control.driving
        self._control.wish(wish)
        if drove and not self._control.driving:
            self._say(f"{self.name}: the policy drives")
            self._let_go()

    def _let_go(self) -> None:
        """Leader and follower must agree anew before it follows."""
        self._episode.followed, self._episode.held = False, None

    @property
    def _wanted(self) -> bool:
        """Whether somebody wants the leader to be followed."""
        return self._control.driving or self._control.asking

    def _judged_action(self, reading: LeaderReading, observation: Observation) -> FloatArray | None:
        """The action while in control, else None; a leader that jumped is not followed."""
        if reading.problem:
            self._watch.forget()
            self._lost = ""
            return None
        stamp_ns = observation.stamp_ns if reading.stamp_ns is None else reading.stamp_ns
        self._notice_jump(self._watch.problem(reading.positions, stamp_ns))
        if self._lost:
            return self._hold(reading.positions, observation) if self._control.driving else None
        return self._action(reading.positions, observation)

    def _notice_jump(self, lost: str) -> None:
        """Losing a leader whose reading jumps; said once somebody wants to follow it."""
        if lost and not self._lost:
            self._let_go()
        self._lost = lost
        if lost and not self._lost_told and self._wanted:
            self._say(f"{self.name}: the leader is lost: {lost}; the robot holds still until both agree again")
        self._lost_told = bool(lost) and (self._lost_told or self._wanted)

    def _action(self, leader: Mapping[str, float], observation: Observation) -> FloatArray | None:
        """The action while in control, else None."""
        if self._wanted and not self._episode.followed and not self._control.paused:
            self._align(leader, observation)
        if not self._control.driving:
            return None
        if self._episode.followed:
            return self._following.action(leader, observation.stamp_ns)
        return self._hold(leader, observation)

    def _align(self, leader: Mapping[str, float], observation: Observation) -> None:
        """Takes over once leader and follower agree; until then says what is missing."""
        follower = self._follower(leader, observation)
        gaps = self._following.gaps(leader, follower)
        if not gaps:
            self._following.engage(leader, follower, observation.stamp_ns)
            self._control.take()
            self._episode.followed = True
            gives_back = f", {TAKE_OVER_KEY.capitalize()} gives back" if self._control.correcting else ""
            self._say(f"{self.name}: you drive{gives_back}")
        elif observation.stamp_ns - self._told_ns >= TELL_PERIOD_NS or observation.stamp_ns < self._told_ns:
            self._told_ns = observation.stamp_ns
            self._say(f"{self.name}: not aligned, move the leader: {in_words(gaps)}")

    def _follower(self, leader: Mapping[str, float], observation: Observation) -> FloatArray:
        """What the follower was last told, or else where it waits or is seen. Shape (A,)."""
        applied = self._control.applied
        if self._episode.held is not None:
            return self._episode.held
        if applied is not None and not self._control.moved:
            return applied.astype(np.float64)
        told = applied if applied is not None else self._episode.given
        told = told if told is not None else self._following.targets(leader)
        return self._following.seen(observation, told)

    def _hold(self, leader: Mapping[str, float], observation: Observation) -> FloatArray:
        """The action that holds still until the leader is aligned. Shape (A,), the action's dtype."""
        if self._episode.held is None:
            self._episode.held = self._follower(leader, observation)
        return self._episode.held.astype(self._spec.action.dtype)


def in_words(gaps: Sequence[Gap]) -> str:
    """How far each joint of the leader must still go."""
    words = ", ".join(f"{gap.joint} by {gap.move:+.2f}" for gap in gaps)
    turned = ", ".join(gap.joint for gap in gaps if _is_whole_turns(gap.move))
    if not turned:
        return words
    return (
        f"{words}; {turned} is off by whole turns, as after an encoder's wrap: home the leader, start its driver anew"
    )


def _is_whole_turns(move_rad: float) -> bool:
    """Whether a joint would be aligned but for full turns."""
    turns = round(move_rad / (2.0 * math.pi))
    return turns != 0 and abs(move_rad - turns * 2.0 * math.pi) < TURN_MARGIN_RAD
