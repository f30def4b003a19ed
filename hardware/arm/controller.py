"""What an arm node does with what it hears, without ROS: mail in, commands to the driver and messages out.

One thread owns an `ArmController` and with it the driver. Times are arguments: monotonic for durations, the robot's
clock for stamps [ns]. Whatever the driver raises becomes a fault here.

Where time goes on by itself the loop is closed: motion begins only where several fresh samples agree that the arm is,
and goes on only while the arm follows (`hardware/safety/following.py`). Wherever it was moved to in between, by its
driver or by hand, that is where the next motion begins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from hardware.arm.driver import DriverFailed, GuardedDriver
from hardware.arm.interpolator import CommandInterpolator, RowFilter, Taken
from hardware.arm.mail import ArmCounters, BadMail, Mail, Outlet, ResetMail, RowMail
from hardware.arm.messages import ArmMode, Row, limits_hash
from hardware.arm.reset import Beginning
from hardware.arm.settings import ArmSettings, at_rate
from hardware.arm.sight import Sight
from hardware.arm.state import (
    LATCHED,
    ArmState,
    Begun,
    ClockJump,
    Command,
    Enable,
    Event,
    Failure,
    Heartbeat,
    Mode,
    Passed,
    Reset,
    Unseen,
    advance,
)
from hardware.node_config import BadConfig
from hardware.safety.filter import FilterReason, OperatorState, reason_names
from hardware.safety.limits import CommandLimits, KeepsWithin
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Robot, stands_still
from robot_rl.core.specs import NS_PER_S, FloatArray

OLDEST_COMMAND_S = 0.5
EARLIEST_COMMAND_S = 0.2
RESET_PATIENCE_S = 1.0
"""Topics keep no order among each other: a reset may come before the enabling that it belongs to."""
ENABLE_PATIENCE_S = 1.0
"""How long a wish for motion waits until samples agree on where the arm is."""
REFUSED_ROWS_EVERY_S = 1.0
"""Refused rows are told at most this often; all are counted."""


class _PendingReset(NamedTuple):
    """A reset that waits for enabling, no longer than `until_ns`, or for rest; `allowed` once the lease is its own."""

    mail: ResetMail
    until_ns: int
    allowed: bool


class ArmController:
    """The state of an arm node.

    Args:
        driver: Entered by the caller.
        settings: The arm's.
        limits: As written in the robot's yaml, at the rate of the rows.
        row_hz: Rate at which commands come; the driver's own if None [Hz].
        outlet: Where messages go.

    Attributes:
        spec: The driver's, at the rate of the rows.
        counters: For diagnostics.

    Raises:
        RobotRLError: Settings, limits and driver do not fit each other.
    """

    def __init__(
        self, driver: Robot, settings: ArmSettings, limits: Mapping[str, Any], row_hz: float | None, outlet: Outlet
    ) -> None:
        row_hz = row_hz or driver.spec.control_hz
        if settings.lockstep and row_hz != driver.spec.control_hz:
            raise BadConfig(
                f"robot.control_hz is {row_hz:g} and the driver's {driver.spec.control_hz:g}: equal ones in lockstep"
            )
        if settings.lockstep and not stands_still(driver):
            raise BadConfig(
                f"arm.lockstep is true, but the driver '{driver.spec.name}' moves by itself (it declares no "
                "simulated_time): without lockstep watchdog, heartbeat and limits.following watch it"
            )
        self.spec = at_rate(driver.spec, row_hz)
        self.counters = ArmCounters()
        self._settings, self._outlet = settings, outlet
        self._rules = settings.rules(row_hz)
        self._limits = CommandLimits.for_spec(self.spec, limits)
        if isinstance(driver, KeepsWithin):
            driver.keep_within(self._limits)
        stream_hz = row_hz if settings.lockstep else settings.stream_hz
        if not settings.lockstep:
            self._limits.require_following(stream_hz)
        self._rows, self._stream = RowFilter(self._limits), CommandInterpolator(self._limits, stream_hz)
        self._driver = GuardedDriver(driver, self._limits, stream_hz)
        self._sight = Sight(self._driver, self._limits, settings.lockstep)
        self._state = ArmState()
        self._about = ArmMode(
            Mode.INACTIVE,
            lockstep=settings.lockstep,
            spec=self.spec.to_json(),
            limits_hash=limits_hash(limits),
        )
        self._told: ArmMode | None = None
        self._row_refused_at_ns: int | None = None
        self._enable_until_ns: int | None = None
        self._pending: _PendingReset | None = None
        self._beginning: Beginning | None = None
        self._seen: Observation | None = None
        self._stands_at_ns = 0
        self._clock_offset_ns: int | None = None
        self._ticked_at_ns: int | None = None
        self._commanding = self._broken = False

    @property
    def state(self) -> ArmState:
        """The present mode and its reason."""
        return self._state

    @property
    def refusal(self) -> str:
        """Why something was refused last."""
        return self._about.refusal

    @property
    def at_rest(self) -> bool:
        """Whether nothing is commanded to move any more."""
        return not self._commanding or (self._yielding and self._stream.at_rest)

    @property
    def _yielding(self) -> bool:
        """After an arm did not follow, the command goes on going after it: whatever holds it may let go at any time."""
        return self._state.mode is Mode.FAULT and bool(self._stream.not_following)

    def begin(self, now_ns: int, robot_ns: int) -> None:
        """Says what the node is; a simulator whose time stands still is laid out, so that there is something to see."""
        if self._settings.lockstep:
            self._stands_at_ns = robot_ns
            with self._faults(now_ns):
                self._driver.reset(0)
        self._observe(now_ns, robot_ns)
        self._tell()

    def receive(self, mail: Mail, now_ns: int, robot_ns: int) -> None:
        """Takes what a topic brought.

        Args:
            mail: What it says.
            now_ns: When it came, monotonic [ns].
            robot_ns: When it came, on the robot's clock [ns].
        """
        match mail:
            case RowMail():
                self._row(mail, now_ns, robot_ns)
            case ResetMail():
                self._ask_reset(mail, now_ns)
            case BadMail():
                self._refuse(mail.problem)
            case Enable():
                self._ask_enable(mail, now_ns)
            case _:
                self._happened(mail, now_ns)
        self._enable_when_possible(now_ns)
        self._reset_when_possible(now_ns, robot_ns)
        self._tell()

    def tick(self, deadline_ns: int, now_ns: int, robot_ns: int) -> None:
        """One tick of the stream; in lockstep, a look at the driver while nothing happens.

        Args:
            deadline_ns: When the tick was meant to be, monotonic [ns].
            now_ns: When it is [ns].
            robot_ns: When it is, on the robot's clock [ns].
        """
        self._watch_clock(now_ns, robot_ns)
        observation = self._look(now_ns, robot_ns)
        self._enable_when_possible(now_ns)
        self._reset_when_possible(now_ns, robot_ns)
        if self._settings.lockstep or self._broken:
            self._rest_unless(self._state.active, now_ns)
        elif self._commanding:
            self._command(deadline_ns, now_ns, observation)
        if observation is not None and self._seen is not None:
            # Last: encoding messages must not delay the command. A reset may have shown something newer meanwhile.
            self._outlet.show(self._seen)
        self._tell()

    # Modes

    def _happened(self, event: Event, now_ns: int) -> bool:
        """Advances the mode. Returns whether the event was heeded."""
        before = self._state
        self._state, refusal = advance(before, event, now_ns / NS_PER_S, self._rules)
        if self._state.mode is not before.mode:
            self._changed(before.mode, now_ns)
        if refusal:
            if isinstance(event, Command):
                self._refuse_row(refusal, now_ns)
            elif not isinstance(event, Heartbeat):
                self._refuse(refusal)
        return not refusal

    def _changed(self, before: Mode, now_ns: int) -> None:
        if self._state.mode in LATCHED:
            self.counters.stops[re.split(r" from | for | by |:", self._state.reason)[0]] += 1
        elif before in LATCHED:
            self._stream.clear_fault()
            self._broken = False
            self._forget(now_ns, looked_at=True)
        if self._beginning is not None and not self._state.active:
            with self._faults(now_ns):
                self._beginning.abandon()
        if self._state.active:
            self._about = dataclasses.replace(self._about, refusal="")
            self._restart(now_ns)

    def _restart(self, now_ns: int) -> None:
        """The filters begin where the arm is; one that is still braking goes on from there."""
        if self._commanding or self._seen is None:
            self._stream.forget()
            return
        pose = self._start_pose(now_ns)
        if pose is None:
            return
        self._stream.restart(pose)
        self._rows.restart(pose)
        self._ticked_at_ns = None

    def _forget(self, now_ns: int, *, looked_at: bool = False) -> None:
        """The arm may have been moved: it is looked at anew before it may be."""
        self._sight.forget(looked_at)
        if not self._settings.lockstep:
            self._happened(Unseen(self._sight.doubt), now_ns)

    def _start_pose(self, now_ns: int) -> FloatArray | None:
        """Where the arm is; None with a fault if that is not known."""
        if not self._settings.lockstep:
            if self._sight.pose is None:
                self._happened(Failure(f"nobody knows where the arm is: {self._sight.doubt}"), now_ns)
            return self._sight.pose
        assert self._seen is not None
        try:
            return self._limits.start_pose(self._seen)
        except RobotRLError as error:
            self._happened(Failure(str(error)), now_ns)
            return None

    def _ask_enable(self, wish: Enable, now_ns: int) -> None:
        """A wish for motion waits a moment for an arm that was seen, but not yet where it is at rest."""
        waits = wish.on and not self._settings.lockstep and self._seen is not None and not self._state.ready
        if waits and self._state.mode is Mode.INACTIVE:
            self._enable_until_ns = now_ns + round(ENABLE_PATIENCE_S * NS_PER_S)
            return
        self._enable_until_ns = None
        self._happened(wish, now_ns)

    def _enable_when_possible(self, now_ns: int) -> None:
        if self._enable_until_ns is None:
            return
        if self._state.mode is not Mode.INACTIVE:
            self._enable_until_ns = None
        elif self._state.ready or now_ns > self._enable_until_ns:
            self._enable_until_ns = None
            self._happened(Enable(True), now_ns)

    def _refuse(self, why: str) -> None:
        self.counters.refused[why.split(":")[0]] += 1
        self._about = dataclasses.replace(self._about, refusal=why)

    def _refuse_row(self, why: str, now_ns: int) -> None:
        told_ns = self._row_refused_at_ns
        if told_ns is None or now_ns - told_ns >= REFUSED_ROWS_EVERY_S * NS_PER_S:
            self._row_refused_at_ns = now_ns
            self._refuse(why)
        else:
            self.counters.refused[why.split(":")[0]] += 1

    @contextlib.contextmanager
    def _faults(self, now_ns: int) -> Iterator[None]:
        """Turns what the driver raises into a fault; it is given no more commands before that is cleared."""
        try:
            yield
        except DriverFailed as error:
            self._broken = True
            self._happened(Failure(str(error)), now_ns)

    # Rows

    def _row(self, mail: RowMail, now_ns: int, robot_ns: int) -> None:
        self.counters.rows += 1
        problem, reasons = self._problem_with(mail, robot_ns)
        if problem:
            self._refuse_row(problem, now_ns)
        if not self._happened(Command(mail.session, usable=not reasons, number=mail.number), now_ns):
            reasons |= self._why_refused()
        elif self._beginning is not None:
            self._refuse_row(f"command of {mail.session} refused: the arm is being reset", now_ns)
            reasons |= FilterReason.DISABLED
        if reasons:
            held = self._rows.held(reasons) if self._settings.lockstep else self._stream.held(reasons)
            self._outlet.acknowledge(Row(mail.stamp_ns, mail.session, held.applied, int(reasons)))
        elif self._settings.lockstep:
            self._step(mail, now_ns, robot_ns)
        else:
            self._commanding = True
            taken = self._stream.take(mail.values, mail.stamp_ns, now_ns, self._seen)
            self._answer(mail, taken, taken.applied, now_ns)

    def _problem_with(self, mail: RowMail, robot_ns: int) -> tuple[str, FilterReason]:
        """What makes a row unusable, whoever sent it."""
        if mail.values is None:
            return mail.problem, FilterReason.SHAPE
        if not np.isfinite(mail.values).all():
            return f"command of {mail.session} holds NaN or infinity", FilterReason.NOT_FINITE
        late_s = (robot_ns - mail.stamp_ns) / NS_PER_S
        if self._settings.lockstep or -EARLIEST_COMMAND_S <= late_s <= OLDEST_COMMAND_S:
            return "", FilterReason.NONE
        where = f"{late_s:.3f} s ago" if late_s > 0 else f"{-late_s:.3f} s in the future"
        problem = f"stamp of {mail.session}'s command: {where} on the robot's clock; synchronise the two clocks"
        return problem, FilterReason.CLOCK

    def _why_refused(self) -> FilterReason:
        if self._state.active:
            return FilterReason.DEADMAN
        return FilterReason.FAULT if self._state.mode is Mode.FAULT else FilterReason.DISABLED

    def _step(self, mail: RowMail, now_ns: int, robot_ns: int) -> None:
        """One step of a driver whose time stands still; a row that is repeated is answered and not executed again."""
        before_ns = self._rows.stamp_ns
        taken = self._rows.take(mail.values, mail.stamp_ns, self._seen)
        executed = taken.applied
        if self._rows.stamp_ns != before_ns:
            self._commanding, self._stands_at_ns = True, mail.stamp_ns
            self.counters.commands += 1
            with self._faults(now_ns):
                executed = self._driver.apply(taken.applied)
            self._observe(now_ns, robot_ns)
        self._answer(mail, taken, executed, now_ns)

    def _answer(self, mail: RowMail, taken: Taken, executed: FloatArray, now_ns: int) -> None:
        reasons = taken.reasons | (FilterReason.FAULT if self._broken else FilterReason.NONE)
        if self._driver.judges and not self._broken:
            with self._faults(now_ns):
                self._outlet.judge(mail.stamp_ns, self._driver.judge())
        self.counters.reasons.update(f"row {name}" for name in reason_names(reasons))
        self._outlet.acknowledge(Row(mail.stamp_ns, mail.session, executed, int(reasons)))

    # The driver

    def _observe(self, now_ns: int, robot_ns: int) -> None:
        """Publishes what the driver shows."""
        observation = self._look(now_ns, robot_ns)
        if observation is not None:
            self._outlet.show(observation)

    def _look(self, now_ns: int, robot_ns: int) -> Observation | None:
        """What the driver shows; None while it shows nothing fresh.

        In lockstep the time is that of the last row or reset, so that whoever sent it knows what belongs to it.
        """
        event: Event = Passed()
        observation, robot_ns = None, self._stands_at_ns if self._settings.lockstep else robot_ns
        if self._beginning is not None and self._beginning.running:
            self._happened(Unseen("the driver is being reset"), now_ns)
            return None
        with self._faults(now_ns):
            observation, event = self._sight.look(now_ns, robot_ns)
        self._seen = self._seen if observation is None else observation
        self.counters.stale += observation is None
        self.counters.rejected = self._sight.rejected
        self._happened(event, now_ns)
        return observation

    def _command(self, deadline_ns: int, now_ns: int, observation: Observation | None) -> None:
        """The stream's command at this tick; after the last one at rest the driver is told to stop."""
        dt_s = 1.0 / self._settings.stream_hz
        if self._ticked_at_ns is not None:
            dt_s = (now_ns - self._ticked_at_ns) / NS_PER_S
        self._ticked_at_ns = now_ns
        if dt_s > self._limits.ramp_after_s:
            # Measured: an arm node stopped for 1 s by SIGSTOP moved a resting arm by 70 mrad when it went on.
            self.counters.stalls += 1
            self._stream.restart_in_place()
        active = self._state.active and self._pending is None
        ahead = None
        with self._faults(now_ns):
            ahead = self._driver.ahead()
        streamed = self._stream.tick(deadline_ns, dt_s, observation, OperatorState(enabled=active), ahead)
        with self._faults(now_ns):
            self._driver.apply_streamed(streamed.command)
        self.counters.commands += 1
        if active:
            self.counters.dry += streamed.dry
            self.counters.reasons.update(reason_names(streamed.reasons))
        if self._stream.fault:
            names = " and ".join(reason_names(self._stream.fault))
            self._happened(Failure(f"the driver's streams were too old for too long: {names}"), now_ns)
        if self._stream.not_following:
            self._happened(Failure(self._stream.not_following), now_ns)
        self.counters.waits = self._stream.waits
        if self._stream.at_rest and not self._yielding:
            self._rest_unless(self._state.active and active, now_ns)

    def _rest_unless(self, active: bool, now_ns: int) -> None:
        if self._commanding and not active:
            self._commanding = False
            with self._faults(now_ns):
                self._driver.stop()

    # Resets, clocks, and saying so

    def _ask_reset(self, mail: ResetMail, now_ns: int) -> None:
        until_ns = now_ns + round(RESET_PATIENCE_S * NS_PER_S)
        allowed = self._state.active and self._happened(Reset(mail.session), now_ns)
        if allowed or not self._state.active:
            self._pending = _PendingReset(mail, until_ns, allowed)

    def _reset_when_possible(self, now_ns: int, robot_ns: int) -> None:
        """Begins an episode once the arm is enabled and at rest."""
        self._begin_when_reset(now_ns)
        if self._pending is None:
            return
        mail, until_ns, allowed = self._pending
        if not self._state.active:
            waits = self._enable_until_ns is not None or now_ns <= until_ns
            if self._state.mode in LATCHED or not waits:
                self._pending = None
                self._refuse(f"reset refused: {self._state.mode}, {self._state.reason}")
            return
        if not allowed:
            allowed = self._happened(Reset(mail.session), now_ns)
            self._pending = _PendingReset(mail, until_ns, allowed) if allowed else None
        if allowed and self._beginning is None and (self._settings.lockstep or not self._commanding):
            self._pending = None
            self._reset(mail, now_ns, robot_ns)

    def _reset(self, mail: ResetMail, now_ns: int, robot_ns: int) -> None:
        self._commanding, self._stands_at_ns = False, mail.stamp_ns
        if not self._settings.lockstep:
            self._beginning = Beginning(self._driver, self._sight, mail.seed)
            self._begin_when_reset(now_ns)
            return
        with self._faults(now_ns):
            self._driver.reset(mail.seed)
            self._begun(mail.seed)
            self._observe(now_ns, robot_ns)
            self._restart(now_ns)

    def _begin_when_reset(self, now_ns: int) -> None:
        """The episode begins once the driver was reset and samples agree on where that left the arm."""
        beginning, over = self._beginning, False
        if beginning is None or beginning.running:
            return
        if beginning.abandoned:
            self._beginning = None
            self._forget(now_ns)
            return
        with self._faults(now_ns):
            over = beginning.over(now_ns)
        if over:
            self._beginning = None
            self._begun(beginning.seed)
            self._restart(now_ns)
            self._happened(Begun(), now_ns)

    def _begun(self, seed: int) -> None:
        self._about = dataclasses.replace(self._about, episode=self._about.episode + 1, seed=seed, refusal="")

    def _watch_clock(self, now_ns: int, robot_ns: int) -> None:
        offset_ns, before_ns = robot_ns - now_ns, self._clock_offset_ns
        self._clock_offset_ns = offset_ns
        if before_ns is not None and abs(offset_ns - before_ns) > self._settings.clock_jump_s * NS_PER_S:
            self._happened(ClockJump((offset_ns - before_ns) / NS_PER_S), now_ns)

    def _tell(self) -> None:
        state = self._state
        mode = dataclasses.replace(self._about, mode=state.mode, reason=state.reason, session=state.session)
        if mode != self._told:
            self._told = mode
            self._outlet.tell(mode)
