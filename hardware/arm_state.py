"""Who may move an arm, and when not: the modes of an arm node, without ROS and without a clock of its own.

Every event is stamped with the monotonic time of its arrival. What should have arrived by then is judged first, so
that a heartbeat that comes too late cannot undo the stop that its absence is. Motion needs an act of enabling that came
after the last stop or fault was cleared; nothing else leads to `ACTIVE`.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from robot_rl.types import RobotRLError


class Mode(enum.StrEnum):
    """What an arm node allows."""

    INACTIVE = "inactive"
    """No motion; `enable` asks for it."""
    ACTIVE = "active"
    """Commands are obeyed."""
    STOPPED = "stopped"
    """A latched stop; only `clear` ends it."""
    FAULT = "fault"
    """The driver or a sensor failed; only `clear` ends it."""


LATCHED = (Mode.STOPPED, Mode.FAULT)


@dataclass(frozen=True)
class ArmRules:
    """How patient an arm is.

    Attributes:
        deadman: A heartbeat is needed.
        deadman_timeout_s: Longest time between two heartbeats [s].
        watchdog_s: Longest time between two commands once one came [s]; infinite where time stands still between them.
    """

    deadman: bool = True
    deadman_timeout_s: float = 0.2
    watchdog_s: float = 0.1

    def __post_init__(self) -> None:
        """Rejects what could never or would always stop."""
        if not 0.0 < self.deadman_timeout_s < math.inf:
            raise RobotRLError(f"deadman_timeout_s is {self.deadman_timeout_s}, wanted a time above 0, for example 0.2")
        if not self.watchdog_s > 0.0:
            raise RobotRLError(f"watchdog_s is {self.watchdog_s}, wanted a time above 0, for example 0.1")


@dataclass(frozen=True)
class ArmState:
    """The mode and what it depends on; times are monotonic [s].

    Attributes:
        mode: See `Mode`.
        reason: Why, for people.
        session: Who holds the lease while active; empty for nobody yet.
        heartbeat_s: When the last heartbeat of this session came; None before the first since enabling.
        command_s: When its last command came; None before the first since enabling.
        ready: The driver has shown every stream since it started or failed.
        now_s: Time of the last event.
    """

    mode: Mode = Mode.INACTIVE
    reason: str = "started"
    session: str = ""
    heartbeat_s: float | None = None
    command_s: float | None = None
    ready: bool = False
    now_s: float = -math.inf

    @property
    def active(self) -> bool:
        """Whether commands are obeyed."""
        return self.mode is Mode.ACTIVE


class Enable(NamedTuple):
    """A person or a session asks for motion, or takes it away."""

    on: bool
    why: str = "disabled"


class Heartbeat(NamedTuple):
    """The session's control loop is alive."""

    session: str


class Command(NamedTuple):
    """A row of a session's. One that cannot be executed does not show that its sender is well."""

    session: str
    usable: bool = True


class Reset(NamedTuple):
    """A session begins an episode."""

    session: str


class Stop(NamedTuple):
    """A latched stop."""

    reason: str


class Clear(NamedTuple):
    """A person ends a stop or a fault."""

    who: str


class Observed(NamedTuple):
    """The driver showed every stream."""


class Failure(NamedTuple):
    """The driver raised, or a stream is too old to go on."""

    reason: str


class ClockJump(NamedTuple):
    """The robot's clock left the monotonic one by `seconds` at once."""

    seconds: float


class Passed(NamedTuple):
    """Nothing but time."""


Event = Enable | Heartbeat | Command | Reset | Stop | Clear | Observed | Failure | ClockJump | Passed


class Advance(NamedTuple):
    """What an event did.

    Attributes:
        state: After it.
        refusal: Why it was refused, for people; empty if it was not.
    """

    state: ArmState
    refusal: str = ""


def advance(state: ArmState, event: Event, now_s: float, rules: ArmRules) -> Advance:
    """The mode after an event.

    Args:
        state: Before it.
        event: What happened.
        now_s: When it arrived, monotonic [s]; a time before the last event's counts as the last event's.
        rules: The arm's.
    """
    now_s = max(now_s, state.now_s)
    state = replace(_expired(state, now_s, rules), now_s=now_s)
    match event:
        case Enable():
            return _enabled(state, event)
        case Heartbeat() | Command() | Reset():
            return _spoken(state, event, rules)
        case Clear():
            return _cleared(state, event.who)
        case Stop():
            return Advance(_latched(state, Mode.STOPPED, event.reason))
        case Failure():
            return Advance(_latched(state, Mode.FAULT, event.reason))
        case ClockJump():
            reason = f"the robot's clock jumped by {event.seconds:+.3f} s; check its time service, then clear"
            return Advance(_latched(state, Mode.STOPPED, reason) if state.active else state)
        case Observed():
            # What a failed driver shows is no reason to trust it again.
            return Advance(state if state.mode is Mode.FAULT else replace(state, ready=True))
        case Passed():
            return Advance(state)


def _expired(state: ArmState, now_s: float, rules: ArmRules) -> ArmState:
    """The state once silences are judged."""
    if not state.active:
        return state
    if rules.deadman and state.heartbeat_s is not None and now_s - state.heartbeat_s > rules.deadman_timeout_s:
        limit_ms = 1000 * rules.deadman_timeout_s
        return _latched(state, Mode.STOPPED, f"no heartbeat from {state.session} for {limit_ms:.0f} ms; clear to go on")
    if state.command_s is not None and now_s - state.command_s > rules.watchdog_s:
        limit_ms = 1000 * rules.watchdog_s
        return _latched(
            state, Mode.STOPPED, f"no usable command from {state.session} for {limit_ms:.0f} ms; clear to go on"
        )
    return state


def _latched(state: ArmState, mode: Mode, reason: str) -> ArmState:
    """Stopped or failed. The first reason stays, but a fault outranks a stop."""
    if state.mode is mode or state.mode is Mode.FAULT:
        return state
    return ArmState(mode, reason, ready=state.ready and mode is not Mode.FAULT, now_s=state.now_s)


def _enabled(state: ArmState, event: Enable) -> Advance:
    if not event.on:
        if not state.active:
            return Advance(state)
        return Advance(ArmState(Mode.INACTIVE, event.why, ready=state.ready, now_s=state.now_s))
    if state.active:
        return Advance(state)
    if state.mode in LATCHED:
        return Advance(state, f"cannot enable: {state.mode}, {state.reason}; publish on `clear` first")
    if not state.ready:
        return Advance(state, "cannot enable: the driver has not shown every stream yet; see the diagnostics")
    return Advance(ArmState(Mode.ACTIVE, "enabled", ready=True, now_s=state.now_s))


def _spoken(state: ArmState, event: Heartbeat | Command | Reset, rules: ArmRules) -> Advance:
    """A session says something; the first that speaks after enabling gets the lease."""
    what = type(event).__name__.lower()
    if not event.session:
        return Advance(state, f"{what} without a session: put an id into header.frame_id")
    if not state.active:
        return Advance(state, f"{what} refused: {state.mode}, {state.reason}")
    if state.session and event.session != state.session:
        if isinstance(event, Heartbeat):
            return Advance(state, f"heartbeat of {event.session} ignored: {state.session} has the arm")
        reason = f"second publisher of {what}s: {state.session} and {event.session}; end one of them, then clear"
        return Advance(_latched(state, Mode.STOPPED, reason), reason)
    state = replace(state, session=event.session)
    if isinstance(event, Heartbeat):
        return Advance(replace(state, heartbeat_s=state.now_s))
    if isinstance(event, Reset):
        # The driver may take its time over a reset, and a new episode is commanded anew.
        return Advance(replace(state, heartbeat_s=None, command_s=None))
    if rules.deadman and state.heartbeat_s is None:
        return Advance(state, f"command refused: no heartbeat from {state.session} yet, wanted some on `deadman`")
    return Advance(replace(state, command_s=state.now_s) if event.usable else state)


def _cleared(state: ArmState, who: str) -> Advance:
    if state.mode not in LATCHED:
        return Advance(state)
    return Advance(ArmState(Mode.INACTIVE, f"cleared by {who or 'someone'}", ready=state.ready, now_s=state.now_s))
