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

from robot_rl.core.errors import RobotRLError


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
        idle_s: Longest time without a word of anybody before the first command [s]: motion that nobody uses is taken
            away.
    """

    deadman: bool = True
    deadman_timeout_s: float = 0.2
    watchdog_s: float = 0.1
    idle_s: float = 10.0

    def __post_init__(self) -> None:
        """Rejects what could never or would always stop."""
        if not 0.0 < self.deadman_timeout_s < math.inf:
            raise RobotRLError(f"deadman_timeout_s is {self.deadman_timeout_s}, wanted a time above 0, for example 0.2")
        if not self.watchdog_s > 0.0:
            raise RobotRLError(f"watchdog_s is {self.watchdog_s}, wanted a time above 0, for example 0.1")
        if not 0.0 < self.idle_s < math.inf:
            raise RobotRLError(f"idle_s is {self.idle_s}, wanted a time above 0, for example 10")


@dataclass(frozen=True)
class ArmState:
    """The mode and what it depends on; times are monotonic [s].

    Attributes:
        mode: See `Mode`.
        reason: Why, for people.
        session: Who holds the lease while active; empty for nobody yet.
        heartbeat_s: When the last heartbeat of this session came; None before the first since enabling.
        command_s: When its last command came; None before the first since enabling.
        word_s: When anything of it came, or else when motion was allowed.
        settling: An episode has just begun, and its first command may take a while.
        beats: Number of its last heartbeat; 0 if it does not count them.
        rows: Number of its last command, likewise.
        ready: The driver shows every stream, and samples agree on where the arm is.
        unready: Why not, in words.
        now_s: Time of the last event.
    """

    mode: Mode = Mode.INACTIVE
    reason: str = "started"
    session: str = ""
    heartbeat_s: float | None = None
    command_s: float | None = None
    word_s: float = 0.0
    settling: bool = False
    beats: int = 0
    rows: int = 0
    ready: bool = False
    unready: str = "the driver has not shown every stream yet; see the diagnostics"
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
    """The session's control loop is alive. A sender numbers its heartbeats from 1, so that another's are noticed."""

    session: str
    number: int = 0


class Command(NamedTuple):
    """A row of a session's, numbered likewise. One that cannot be executed does not show that its sender is well."""

    session: str
    usable: bool = True
    number: int = 0


class Reset(NamedTuple):
    """A session begins an episode."""

    session: str


class Begun(NamedTuple):
    """The driver was reset, and the arm is where the episode begins."""


class Stop(NamedTuple):
    """A latched stop."""

    reason: str


class Clear(NamedTuple):
    """A person ends a stop or a fault."""

    who: str


class Observed(NamedTuple):
    """The driver shows every stream, and samples agree on where the arm is."""


class Unseen(NamedTuple):
    """It does not, or they do not."""

    why: str


class Failure(NamedTuple):
    """The driver raised, or a stream is too old to go on."""

    reason: str


class ClockJump(NamedTuple):
    """The robot's clock left the monotonic one by `seconds` at once."""

    seconds: float


class Passed(NamedTuple):
    """Nothing but time."""


Event = Enable | Heartbeat | Command | Reset | Begun | Stop | Clear | Observed | Unseen | Failure | ClockJump | Passed


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
            return Advance(state if state.mode is Mode.FAULT else replace(state, ready=True, unready=""))
        case Unseen():
            return Advance(replace(state, ready=False, unready=event.why))
        case Begun():
            return Advance(replace(state, command_s=None, word_s=now_s, settling=True) if state.active else state)
        case Passed():
            return Advance(state)


def _expired(state: ArmState, now_s: float, rules: ArmRules) -> ArmState:
    """The state once silences are judged."""
    if not state.active:
        return state
    unused = state.command_s is None and math.isfinite(rules.watchdog_s)
    if unused and now_s - state.word_s > rules.idle_s:
        return _moved_to(state, Mode.INACTIVE, f"nobody used it for {rules.idle_s:g} s")
    heartbeat_s = state.heartbeat_s if rules.deadman and not state.settling else None
    if heartbeat_s is not None and now_s - heartbeat_s > rules.deadman_timeout_s:
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
    return replace(_moved_to(state, mode, reason), ready=state.ready and mode is not Mode.FAULT)


def _moved_to(state: ArmState, mode: Mode, reason: str) -> ArmState:
    """Another mode, in which nobody has said anything yet."""
    return ArmState(mode, reason, ready=state.ready, unready=state.unready, now_s=state.now_s)


def _enabled(state: ArmState, event: Enable) -> Advance:
    if not event.on:
        if not state.active:
            return Advance(state)
        return Advance(_moved_to(state, Mode.INACTIVE, event.why))
    if state.active:
        return Advance(state)
    if state.mode in LATCHED:
        return Advance(state, f"cannot enable: {state.mode}, {state.reason}; publish on `clear` first")
    if not state.ready:
        return Advance(state, f"cannot enable: {state.unready}")
    return Advance(replace(_moved_to(state, Mode.ACTIVE, "enabled"), word_s=state.now_s))


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
    if forged := _forged(state, event):
        return Advance(_latched(state, Mode.STOPPED, forged), forged)
    state = replace(state, session=event.session)
    if isinstance(event, Heartbeat):
        return Advance(replace(state, heartbeat_s=state.now_s, word_s=state.now_s, beats=event.number))
    if isinstance(event, Reset):
        # The driver may take its time over a reset, and a new episode is commanded anew.
        return Advance(replace(state, heartbeat_s=None, command_s=None, word_s=state.now_s))
    state = replace(state, rows=event.number)
    if rules.deadman and state.heartbeat_s is None:
        return Advance(state, f"command refused: no heartbeat from {state.session} yet, wanted some on `deadman`")
    if state.settling:
        # Heartbeats were not judged since the reset: the first command shows that its sender is alive.
        state = replace(state, heartbeat_s=state.now_s, settling=False)
    return Advance(replace(state, command_s=state.now_s) if event.usable else state)


def _forged(state: ArmState, event: Heartbeat | Command | Reset) -> str:
    """Whether somebody else uses the session's name, in words: its own numbers only rise."""
    if isinstance(event, Reset):
        return ""
    last, what = (state.beats, "heartbeat") if isinstance(event, Heartbeat) else (state.rows, "command")
    if not last or event.number > last:
        return ""
    which = str(event.number) if event.number else "without a number"
    return (
        f"somebody else speaks as session {event.session}: {what} {which} came after {last}; find out who, then clear"
    )


def _cleared(state: ArmState, who: str) -> Advance:
    if state.mode not in LATCHED:
        return Advance(state)
    return Advance(_moved_to(state, Mode.INACTIVE, f"cleared by {who or 'someone'}"))
