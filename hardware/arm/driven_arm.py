"""An arm's driver and what is known of the arm, whichever way its time goes on."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator

from hardware.arm.driver import DriverFailed, GuardedDriver
from hardware.arm.interpolator import Taken
from hardware.arm.mail import ArmCounters, Outlet, ResetMail, RowMail
from hardware.arm.messages import Row
from hardware.arm.mode_keeper import ModeKeeper
from hardware.arm.sight import Sight
from hardware.arm.state import LATCHED, Event, Failure, Mode, Passed
from hardware.safety.filter import FilterReason, reason_names
from robot_rl.core.episode import Observation
from robot_rl.core.specs import FloatArray


class DrivenArm(abc.ABC):
    """Looks at an arm, moves it as its mode allows, and answers rows. Whatever the driver raises becomes a fault.

    Args:
        driver: Entered by the caller before `begin`.
        sight: Of it.
        modes: The arm's.
        outlet: Where observations and answers go.
        counters: For diagnostics.

    Attributes:
        seen: The last observation; None before the first.
    """

    def __init__(
        self, driver: GuardedDriver, sight: Sight, modes: ModeKeeper, outlet: Outlet, counters: ArmCounters
    ) -> None:
        self.seen: Observation | None = None
        self._driver, self._sight, self._modes = driver, sight, modes
        self._outlet, self._counters = outlet, counters
        self._commanding = self._broken = False
        modes.when_changed = self._mode_changed

    @property
    def at_rest(self) -> bool:
        """Whether nothing is commanded to move any more."""
        return not self._commanding

    @property
    @abc.abstractmethod
    def resetting(self) -> bool:
        """Whether a reset goes on, so that no row can be obeyed."""

    @property
    @abc.abstractmethod
    def can_be_reset(self) -> bool:
        """Whether an enabled arm is at rest as far as a reset needs it."""

    @abc.abstractmethod
    def begin(self, now_ns: int, robot_ns: int) -> None:
        """Shows the arm for the first time."""

    @abc.abstractmethod
    def held(self, reasons: FilterReason) -> Taken:
        """The answer to a row that is not executed."""

    @abc.abstractmethod
    def take(self, mail: RowMail, now_ns: int, robot_ns: int) -> None:
        """Obeys a row and answers it."""

    @abc.abstractmethod
    def tick(self, deadline_ns: int, now_ns: int, observation: Observation | None, *, held: bool) -> None:
        """Does what is due at a tick.

        Args:
            deadline_ns: When the tick was meant to be, monotonic [ns].
            now_ns: When it is [ns].
            observation: What the driver shows at it; None while it shows nothing fresh.
            held: The arm has to come to rest although its mode allows motion.
        """

    @abc.abstractmethod
    def reset(self, mail: ResetMail, now_ns: int, robot_ns: int) -> None:
        """Begins an episode, now or as soon as the driver is done; only where the arm `can_be_reset`."""

    @abc.abstractmethod
    def go_on_resetting(self, now_ns: int) -> None:
        """Begins the episode whose reset is over by now."""

    @abc.abstractmethod
    def _cleared(self, now_ns: int) -> None:
        """A person has looked at the arm and ended a stop or a fault."""

    @abc.abstractmethod
    def _disallowed(self, now_ns: int) -> None:
        """Motion is not allowed any more."""

    @abc.abstractmethod
    def _restart(self, now_ns: int) -> None:
        """The filters begin where the arm is; one that is still braking goes on from there."""

    def look(self, now_ns: int, robot_ns: int) -> Observation | None:
        """What the driver shows at a time on the robot's clock [ns]; None while it shows nothing fresh."""
        event: Event = Passed()
        observation = None
        with self._faults(now_ns):
            observation, event = self._sight.look(now_ns, robot_ns)
        self.seen = self.seen if observation is None else observation
        self._counters.stale += observation is None
        self._counters.rejected = self._sight.rejected
        self._modes.happened(event, now_ns)
        return observation

    def _show(self, now_ns: int, robot_ns: int) -> None:
        """Publishes what the driver shows."""
        observation = self.look(now_ns, robot_ns)
        if observation is not None:
            self._outlet.show(observation)

    def _answer(self, mail: RowMail, taken: Taken, executed: FloatArray, now_ns: int) -> None:
        reasons = taken.reasons | (FilterReason.FAULT if self._broken else FilterReason.NONE)
        if self._driver.judges and not self._broken:
            with self._faults(now_ns):
                self._outlet.judge(mail.stamp_ns, self._driver.judge())
        self._counters.reasons.update(f"row {name}" for name in reason_names(reasons))
        self._outlet.acknowledge(Row(mail.stamp_ns, mail.session, executed, int(reasons)))

    def _rest_unless(self, active: bool, now_ns: int) -> None:
        if self._commanding and not active:
            self._commanding = False
            with self._faults(now_ns):
                self._driver.stop()

    @contextlib.contextmanager
    def _faults(self, now_ns: int) -> Iterator[None]:
        """Turns what the driver raises into a fault; it is given no more commands before that is cleared."""
        try:
            yield
        except DriverFailed as error:
            self._broken = True
            self._modes.happened(Failure(str(error)), now_ns)

    def _mode_changed(self, before: Mode, now_ns: int) -> None:
        if before in LATCHED and self._modes.state.mode not in LATCHED:
            self._broken = False
            self._cleared(now_ns)
        if self._modes.state.active:
            self._restart(now_ns)
        else:
            self._disallowed(now_ns)
