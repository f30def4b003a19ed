"""An arm whose time stands still between rows, as in a simulator: a row is a step."""

from __future__ import annotations

from hardware.arm.driven_arm import DrivenArm
from hardware.arm.driver import GuardedDriver
from hardware.arm.interpolator import RowFilter, Taken
from hardware.arm.mail import ArmCounters, Outlet, ResetMail, RowMail
from hardware.arm.mode_keeper import ModeKeeper
from hardware.arm.sight import Sight
from hardware.arm.state import Failure
from hardware.node_config import BadConfig
from hardware.safety.filter import FilterReason
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Robot, stands_still


def require_lockstep(driver: Robot, row_hz: float) -> None:
    """Refuses what cannot be stepped row by row.

    Raises:
        BadConfig: The driver moves by itself, or its steps are not as long as the rows.
    """
    if row_hz != driver.spec.control_hz:
        raise BadConfig(
            f"robot.control_hz is {row_hz:g} and the driver's {driver.spec.control_hz:g}: equal ones in lockstep"
        )
    if not stands_still(driver):
        raise BadConfig(
            f"arm.lockstep is true, but the driver '{driver.spec.name}' moves by itself (it declares no "
            "simulated_time): without lockstep watchdog, heartbeat and limits.following watch it"
        )


class LockstepArm(DrivenArm):
    """Executes every row at once and shows what came of it, with the row's stamp.

    Args:
        driver: One whose time stands still, see `require_lockstep`.
        limits: Of the rows.
        modes: The arm's.
        outlet: Where observations and answers go.
        counters: For diagnostics.
    """

    resetting = False
    can_be_reset = True

    def __init__(
        self, driver: Robot, limits: CommandLimits, modes: ModeKeeper, outlet: Outlet, counters: ArmCounters
    ) -> None:
        guarded = GuardedDriver(driver, limits, limits.spec.control_hz)
        super().__init__(guarded, Sight(guarded, limits, standing=True), modes, outlet, counters)
        self._limits, self._rows = limits, RowFilter(limits)
        self._stands_at_ns = 0

    def begin(self, now_ns: int, robot_ns: int) -> None:
        """Lays the simulator out, so that there is something to see."""
        self._stands_at_ns = robot_ns
        with self._faults(now_ns):
            self._driver.reset(0)
        self._show(now_ns, robot_ns)

    def look(self, now_ns: int, robot_ns: int) -> Observation | None:
        """As ever, but at the time of the last row or reset, so that its sender knows what belongs to it."""
        return super().look(now_ns, self._stands_at_ns)

    def held(self, reasons: FilterReason) -> Taken:
        """The answer to a row that is not executed."""
        return self._rows.held(reasons)

    def take(self, mail: RowMail, now_ns: int, robot_ns: int) -> None:
        """One step; a row that is repeated is answered and not executed again."""
        before_ns = self._rows.stamp_ns
        taken = self._rows.take(mail.values, mail.stamp_ns, self.seen)
        executed = taken.applied
        if self._rows.stamp_ns != before_ns:
            self._commanding, self._stands_at_ns = True, mail.stamp_ns
            self._counters.commands += 1
            with self._faults(now_ns):
                executed = self._driver.apply(taken.applied)
            self._show(now_ns, robot_ns)
        self._answer(mail, taken, executed, now_ns)

    def tick(self, deadline_ns: int, now_ns: int, observation: Observation | None, *, held: bool) -> None:
        """Nothing moves between rows; once motion is disallowed the driver is told to stop."""
        self._rest_unless(self._modes.state.active, now_ns)

    def reset(self, mail: ResetMail, now_ns: int, robot_ns: int) -> None:
        """Begins an episode at once."""
        self._commanding, self._stands_at_ns = False, mail.stamp_ns
        with self._faults(now_ns):
            self._driver.reset(mail.seed)
            self._modes.begun(mail.seed)
            self._show(now_ns, robot_ns)
            self._restart(now_ns)

    def go_on_resetting(self, now_ns: int) -> None:
        """Nothing: a reset is over at once."""

    def _cleared(self, now_ns: int) -> None:
        self._sight.forget(looked_at=True)

    def _disallowed(self, now_ns: int) -> None:
        """Nothing: nothing moves."""

    def _restart(self, now_ns: int) -> None:
        if self._commanding or self.seen is None:
            return
        try:
            self._rows.restart(self._limits.start_pose(self.seen))
        except RobotRLError as error:
            self._modes.happened(Failure(str(error)), now_ns)
