"""An arm that moves by itself: a command for every tick, and the loop closed.

Motion begins only where several fresh samples agree that the arm is, and goes on only while the arm follows
(`hardware/safety/following.py`). Wherever it was moved to in between, by its driver or by hand, that is where the next
motion begins.
"""

from __future__ import annotations

from hardware.arm.driven_arm import DrivenArm
from hardware.arm.driver import GuardedDriver
from hardware.arm.interpolator import CommandInterpolator, Taken
from hardware.arm.mail import ArmCounters, Outlet, ResetMail, RowMail
from hardware.arm.mode_keeper import ModeKeeper
from hardware.arm.reset import Beginning
from hardware.arm.sight import Sight
from hardware.arm.state import Begun, Failure, Mode, Unseen
from hardware.safety.filter import FilterReason, OperatorState, reason_names
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Robot
from robot_rl.core.specs import NS_PER_S


class RealTimeArm(DrivenArm):
    """Makes the way to every row out of many commands.

    Args:
        driver: Entered by the caller before `begin`.
        limits: Of the rows, with `following`.
        command_hz: Rate of ticks, of which each is a command [Hz].
        modes: The arm's.
        outlet: Where observations and answers go.
        counters: For diagnostics.

    Raises:
        LimitError: The limits do not say how the arm follows, or commands are slower than rows.
    """

    def __init__(
        self,
        driver: Robot,
        limits: CommandLimits,
        command_hz: float,
        modes: ModeKeeper,
        outlet: Outlet,
        counters: ArmCounters,
    ) -> None:
        limits.require_following(command_hz)
        guarded = GuardedDriver(driver, limits, command_hz)
        super().__init__(guarded, Sight(guarded, limits, standing=False), modes, outlet, counters)
        self._interpolator = CommandInterpolator(limits, command_hz)
        self._period_s, self._longest_s = 1.0 / command_hz, limits.ramp_after_s
        self._ticked_at_ns: int | None = None
        self._beginning: Beginning | None = None

    @property
    def at_rest(self) -> bool:
        """Whether nothing is commanded to move any more."""
        return not self._commanding or (self._yielding and self._interpolator.at_rest)

    @property
    def _yielding(self) -> bool:
        """After an arm did not follow, the command goes on going after it: whatever holds it may let go at any time."""
        return self._modes.state.mode is Mode.FAULT and bool(self._interpolator.not_following)

    @property
    def resetting(self) -> bool:
        """Whether the driver is being reset, or samples do not agree yet on where that left the arm."""
        return self._beginning is not None

    @property
    def can_be_reset(self) -> bool:
        """Whether the last command was one at rest, and no other reset goes on."""
        return self._beginning is None and not self._commanding

    def begin(self, now_ns: int, robot_ns: int) -> None:
        """Shows the arm as it is found."""
        self._show(now_ns, robot_ns)

    def look(self, now_ns: int, robot_ns: int) -> Observation | None:
        """As ever; a driver that is being reset is left alone."""
        if self._beginning is not None and self._beginning.running:
            self._modes.happened(Unseen("the driver is being reset"), now_ns)
            return None
        return super().look(now_ns, robot_ns)

    def held(self, reasons: FilterReason) -> Taken:
        """The answer to a row that is not executed."""
        return self._interpolator.held(reasons)

    def take(self, mail: RowMail, now_ns: int, robot_ns: int) -> None:
        """Answers with what the next commands will make of a row."""
        self._commanding = True
        taken = self._interpolator.take(mail.values, mail.stamp_ns, now_ns, self.seen)
        self._answer(mail, taken, taken.applied, now_ns)

    def tick(self, deadline_ns: int, now_ns: int, observation: Observation | None, *, held: bool) -> None:
        """Commands the arm, if it was moved since it was at rest."""
        if self._broken:
            self._rest_unless(self._modes.state.active, now_ns)
        elif self._commanding:
            self._command(deadline_ns, now_ns, observation, held)

    def _command(self, deadline_ns: int, now_ns: int, observation: Observation | None, held: bool) -> None:
        """The command of this tick; after the last one at rest the driver is told to stop."""
        interpolator, modes = self._interpolator, self._modes
        dt_s = self._since_last_command_s(now_ns)
        active = modes.state.active and not held
        ahead = None
        with self._faults(now_ns):
            ahead = self._driver.ahead()
        made = interpolator.tick(deadline_ns, dt_s, observation, OperatorState(enabled=active), ahead)
        with self._faults(now_ns):
            self._driver.apply_command(made.command)
        self._counters.commands += 1
        if active:
            self._counters.dry += made.dry
            self._counters.reasons.update(reason_names(made.reasons))
        if interpolator.fault:
            names = " and ".join(reason_names(interpolator.fault))
            modes.happened(Failure(f"the driver's streams were too old for too long: {names}"), now_ns)
        if interpolator.not_following:
            modes.happened(Failure(interpolator.not_following), now_ns)
        self._counters.waits = interpolator.waits
        if interpolator.at_rest and not self._yielding:
            self._rest_unless(modes.state.active and active, now_ns)

    def _since_last_command_s(self, now_ns: int) -> float:
        """Time since the last command [s]; after a long one the arm is taken to have stopped where it was told to."""
        dt_s = self._period_s if self._ticked_at_ns is None else (now_ns - self._ticked_at_ns) / NS_PER_S
        self._ticked_at_ns = now_ns
        if dt_s > self._longest_s:
            # Measured: an arm node stopped for 1 s by SIGSTOP moved a resting arm by 70 mrad when it went on.
            self._counters.stalls += 1
            self._interpolator.restart_in_place()
        return dt_s

    def reset(self, mail: ResetMail, now_ns: int, robot_ns: int) -> None:
        """Has the driver reset; the episode begins once samples agree on where that left the arm."""
        self._beginning = Beginning(self._driver, self._sight, mail.seed)
        self.go_on_resetting(now_ns)

    def go_on_resetting(self, now_ns: int) -> None:
        """Begins the episode whose reset is over by now; one that was abandoned begins none."""
        beginning, over = self._beginning, False
        if beginning is None or beginning.running:
            return
        if beginning.abandoned:
            self._beginning = None
            self._forget(now_ns, looked_at=False)
            return
        with self._faults(now_ns):
            over = beginning.over(now_ns)
        if over:
            self._beginning = None
            self._modes.begun(beginning.seed)
            self._restart(now_ns)
            self._modes.happened(Begun(), now_ns)

    def _forget(self, now_ns: int, *, looked_at: bool) -> None:
        """The arm may have been moved: it is looked at anew before it may be."""
        self._sight.forget(looked_at)
        self._modes.happened(Unseen(self._sight.doubt), now_ns)

    def _cleared(self, now_ns: int) -> None:
        self._interpolator.clear_fault()
        self._forget(now_ns, looked_at=True)

    def _disallowed(self, now_ns: int) -> None:
        if self._beginning is not None:
            with self._faults(now_ns):
                self._beginning.abandon()

    def _restart(self, now_ns: int) -> None:
        pose = self._sight.pose
        if self._commanding or self.seen is None:
            self._interpolator.forget()
        elif pose is None:
            self._modes.happened(Failure(f"nobody knows where the arm is: {self._sight.doubt}"), now_ns)
        else:
            self._interpolator.restart(pose)
            self._ticked_at_ns = None
