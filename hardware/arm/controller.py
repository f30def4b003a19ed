"""What an arm node does with what it hears, without ROS: mail in, commands to the driver and messages out.

One thread owns an `ArmController` and with it the driver. Times are arguments: monotonic for durations, the robot's
clock for stamps [ns]. Here it is decided who is obeyed; how an arm is moved, and how its time goes on, is
`RealTimeArm`'s or `LockstepArm`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hardware.arm.driven_arm import DrivenArm
from hardware.arm.lockstep_arm import LockstepArm, require_lockstep
from hardware.arm.mail import ArmCounters, BadMail, Mail, Outlet, ResetMail, RowMail
from hardware.arm.messages import ArmMode, Row, limits_hash
from hardware.arm.mode_keeper import ModeKeeper
from hardware.arm.real_time_arm import RealTimeArm
from hardware.arm.settings import ArmSettings, at_rate
from hardware.arm.state import LATCHED, ArmState, ClockJump, Command, Enable, Mode, Reset
from hardware.safety.filter import FilterReason
from hardware.safety.limits import CommandLimits, KeepsWithin
from robot_rl.core.protocols import Robot
from robot_rl.core.specs import NS_PER_S

OLDEST_COMMAND_S = 0.5
EARLIEST_COMMAND_S = 0.2
RESET_PATIENCE_S = 1.0
"""Topics keep no order among each other: a reset may come before the enabling that it belongs to."""
ENABLE_PATIENCE_S = 1.0
"""How long a wish for motion waits until samples agree on where the arm is."""


class _PendingReset(NamedTuple):
    """A reset that waits for enabling, no longer than `until_ns`, or for rest; `allowed` once the lease is its own."""

    mail: ResetMail
    until_ns: int
    allowed: bool


class ArmController:
    """Decides what becomes of everything that an arm node hears.

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
        if settings.lockstep:
            require_lockstep(driver, row_hz)
        self.spec = at_rate(driver.spec, row_hz)
        self.counters = ArmCounters()
        self._settings, self._outlet = settings, outlet
        rules, bounds = settings.rules(row_hz), CommandLimits.for_spec(self.spec, limits)
        about = ArmMode(
            Mode.INACTIVE, lockstep=settings.lockstep, spec=self.spec.to_json(), limits_hash=limits_hash(limits)
        )
        self._modes = ModeKeeper(rules, about, outlet, self.counters)
        self._arm = self._driven(driver, bounds)
        self._enable_until_ns: int | None = None
        self._pending: _PendingReset | None = None
        self._clock_offset_ns: int | None = None

    def _driven(self, driver: Robot, limits: CommandLimits) -> DrivenArm:
        if isinstance(driver, KeepsWithin):
            driver.keep_within(limits)
        if self._settings.lockstep:
            return LockstepArm(driver, limits, self._modes, self._outlet, self.counters)
        return RealTimeArm(driver, limits, self._settings.stream_hz, self._modes, self._outlet, self.counters)

    @property
    def state(self) -> ArmState:
        """The present mode and its reason."""
        return self._modes.state

    @property
    def refusal(self) -> str:
        """Why something was refused last."""
        return self._modes.refusal

    @property
    def at_rest(self) -> bool:
        """Whether nothing is commanded to move any more."""
        return self._arm.at_rest

    @property
    def resetting(self) -> bool:
        """Whether an episode is about to begin, once the driver is done with its reset."""
        return self._arm.resetting

    def begin(self, now_ns: int, robot_ns: int) -> None:
        """Shows the arm and says what the node is.

        Args:
            now_ns: When it is, monotonic [ns].
            robot_ns: When it is, on the robot's clock [ns].
        """
        self._arm.begin(now_ns, robot_ns)
        self._modes.tell()

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
                self._modes.refuse(mail.problem)
            case Enable():
                self._ask_enable(mail, now_ns)
            case _:
                self._modes.happened(mail, now_ns)
        self._enable_when_possible(now_ns)
        self._reset_when_possible(now_ns, robot_ns)
        self._modes.tell()

    def tick(self, deadline_ns: int, now_ns: int, robot_ns: int) -> None:
        """A look at the driver, and in real time a command to it.

        Args:
            deadline_ns: When the tick was meant to be, monotonic [ns].
            now_ns: When it is [ns].
            robot_ns: When it is, on the robot's clock [ns].
        """
        self._watch_clock(now_ns, robot_ns)
        observation = self._arm.look(now_ns, robot_ns)
        self._enable_when_possible(now_ns)
        self._reset_when_possible(now_ns, robot_ns)
        self._arm.tick(deadline_ns, now_ns, observation, held=self._pending is not None)
        if observation is not None and self._arm.seen is not None:
            # Last: encoding messages must not delay the command. A reset may have shown something newer meanwhile.
            self._outlet.show(self._arm.seen)
        self._modes.tell()

    def _watch_clock(self, now_ns: int, robot_ns: int) -> None:
        offset_ns, before_ns = robot_ns - now_ns, self._clock_offset_ns
        self._clock_offset_ns = offset_ns
        if before_ns is not None and abs(offset_ns - before_ns) > self._settings.clock_jump_s * NS_PER_S:
            self._modes.happened(ClockJump((offset_ns - before_ns) / NS_PER_S), now_ns)

    # Enabling

    def _ask_enable(self, wish: Enable, now_ns: int) -> None:
        """A wish for motion waits a moment for an arm that was seen, but not yet where it is at rest."""
        state, seen = self._modes.state, self._arm.seen is not None
        waits = wish.on and not self._settings.lockstep and seen and not state.ready
        if waits and state.mode is Mode.INACTIVE:
            self._enable_until_ns = now_ns + round(ENABLE_PATIENCE_S * NS_PER_S)
            return
        self._enable_until_ns = None
        self._modes.happened(wish, now_ns)

    def _enable_when_possible(self, now_ns: int) -> None:
        if self._enable_until_ns is None:
            return
        if self._modes.state.mode is not Mode.INACTIVE:
            self._enable_until_ns = None
        elif self._modes.state.ready or now_ns > self._enable_until_ns:
            self._enable_until_ns = None
            self._modes.happened(Enable(True), now_ns)

    # Resets

    def _ask_reset(self, mail: ResetMail, now_ns: int) -> None:
        until_ns = now_ns + round(RESET_PATIENCE_S * NS_PER_S)
        allowed = self._modes.state.active and self._modes.happened(Reset(mail.session), now_ns)
        if allowed or not self._modes.state.active:
            self._pending = _PendingReset(mail, until_ns, allowed)

    def _reset_when_possible(self, now_ns: int, robot_ns: int) -> None:
        """Begins an episode once the arm is enabled and at rest."""
        self._arm.go_on_resetting(now_ns)
        if self._pending is None:
            return
        mail, until_ns, allowed = self._pending
        state = self._modes.state
        if not state.active:
            waits = self._enable_until_ns is not None or now_ns <= until_ns
            if state.mode in LATCHED or not waits:
                self._pending = None
                self._modes.refuse(f"reset refused: {state.mode}, {state.reason}")
            return
        if not allowed:
            allowed = self._modes.happened(Reset(mail.session), now_ns)
            self._pending = _PendingReset(mail, until_ns, allowed) if allowed else None
        if allowed and self._arm.can_be_reset:
            self._pending = None
            self._arm.reset(mail, now_ns, robot_ns)

    # Rows

    def _row(self, mail: RowMail, now_ns: int, robot_ns: int) -> None:
        self.counters.rows += 1
        problem, reasons = self._problem_with(mail, robot_ns)
        if problem:
            self._modes.refuse_row(problem, now_ns)
        if not self._modes.happened(Command(mail.session, usable=not reasons, number=mail.number), now_ns):
            reasons |= self._why_refused()
        elif self._arm.resetting:
            self._modes.refuse_row(f"command of {mail.session} refused: the arm is being reset", now_ns)
            reasons |= FilterReason.DISABLED
        if reasons:
            held = self._arm.held(reasons)
            self._outlet.acknowledge(Row(mail.stamp_ns, mail.session, held.applied, int(reasons)))
        else:
            self._arm.take(mail, now_ns, robot_ns)

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
        if self._modes.state.active:
            return FilterReason.DEADMAN
        return FilterReason.FAULT if self._modes.state.mode is Mode.FAULT else FilterReason.DISABLED
