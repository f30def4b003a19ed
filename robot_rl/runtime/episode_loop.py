"""One running episode, tick by tick. `run_episode` in `rollout.py` builds it, runs it and closes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from robot_rl.core.clock import SimulatedClock, TickGrid
from robot_rl.core.episode import EpisodeResult, Observation, Source, Step
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import KeptAlive, OperatorCommand, OperatorEvent, SeesApplied, stands_still
from robot_rl.core.specs import NS_PER_S, FloatArray
from robot_rl.runtime.cadence import CadenceRecorder
from robot_rl.runtime.chunk_schedule import mix, smooth_weight
from robot_rl.runtime.ending import End, Ending, Verdict
from robot_rl.runtime.inference import PolicyFault
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.runtime.policy_driver import PolicyDriver

CERTAINTY_S = 5.0
"""How long samples may take to agree on where the robot is."""


class _Handover(NamedTuple):
    """Control passed at `since_ns`, while `anchor` was being applied. Shape (A,)."""

    anchor: FloatArray
    since_ns: int


@dataclass
class EpisodeLoop:
    """The state of a running episode.

    Attributes:
        who: Who meets whom.
        options: How it is run.
        driver: The policy's side; None if only the operator drives.
        cadence: Told of every tick.
        verdict: Told of every judgement and label.
        end: Why the episode ends, once it does: the first reason, whatever happens until the robot is at rest.
    """

    who: Meeting
    options: RolloutSettings
    driver: PolicyDriver | None
    cadence: CadenceRecorder
    verdict: Verdict = field(init=False)
    end: End | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Nothing is seen, said or applied yet."""
        self.verdict = Verdict(self.who.judge is not None, self.options.after_success_ticks)
        self._spec = self.who.robot.spec
        self._simulated = isinstance(self.who.clock, SimulatedClock)
        self._seen: Observation | None = None
        self._seen_at_ns = 0
        self._stale_because = ""
        self._spoke_at_ns: int | None = None
        self._applied: FloatArray | None = None
        self._taker = self.who.operator if isinstance(self.who.operator, SeesApplied) else None
        self._kept_alive = self.who.robot if isinstance(self.who.robot, KeptAlive) else None
        self._commanded_at_ns: int | None = None
        self._commanded_tick_ns: int | None = None
        self._anchored = False
        self._uncertain_since_ns: int | None = None
        self._operator_drives = self.driver is None
        self._handover: _Handover | None = None
        self._paused = self._resting = False

    def run(self) -> End:
        """Ticks until the episode ends and the robot is at rest."""
        grid = TickGrid(self.who.clock, self._spec.tick_ns)
        self._seen_at_ns = grid.start_ns
        if self._simulated:
            # A person may take their time to begin; in simulated time nobody is there to wait for.
            self._spoke_at_ns = grid.start_ns
        while True:
            tick_ns, observation = self._tick(grid)
            if self.end is not None:
                break
        self._settle(grid, self.end, tick_ns, observation)
        return self.end

    def result(self, end: End) -> EpisodeResult:
        """What is known about the episode if it ends like this."""
        return self.verdict.result(end, self.cadence.report())

    def _tick(self, grid: TickGrid) -> tuple[int, Observation | None]:
        """One tick: its time [ns] and what was seen at it."""
        tick = grid.wait()
        begun_ns = self.who.timer()
        self.cadence.tick(tick.lateness_ns, tick.missed)
        observation = self._observe(tick.stamp_ns)
        self.end = self._drive(tick.stamp_ns, observation) or self._overdue(tick.stamp_ns)
        self.cadence.computed(self.who.timer() - begun_ns)
        return tick.stamp_ns, observation

    def _observe(self, now_ns: int) -> Observation | None:
        """This tick's observation, None while a sensor is stale."""
        if self._kept_alive is not None:
            self._kept_alive.keep_alive()
        try:
            observation = self.who.robot.observe(now_ns)
        except StaleSensor as fault:
            self._stale_because = str(fault)
            self.cadence.unobserved()
            return None
        if not self._anchored:
            # Until the first command, and after a stop, somebody else may have moved it.
            self.who.command_filter.reset(observation)
            if self.who.command_filter.doubt:
                self._wait_for_certainty(now_ns)
                return None
        self._uncertain_since_ns = None
        self._seen, self._seen_at_ns = observation, now_ns
        self.cadence.observed(observation)
        if self.driver is not None:
            self.driver.see(observation)
        return observation

    def _wait_for_certainty(self, now_ns: int) -> None:
        """A robot that is seen but not at rest is given a while to be so; any while, if nobody wants to move it."""
        self._stale_because = self.who.command_filter.doubt
        self.cadence.unobserved()
        nobody_asks = self._paused or (self.driver is None and self._spoke_at_ns is None)
        # An operator who has seen nothing yet is not asked anything either, so not even a stop would be heard.
        if self._uncertain_since_ns is None or (nobody_asks and self._seen is not None):
            self._uncertain_since_ns = now_ns
        if now_ns - self._uncertain_since_ns < CERTAINTY_S * NS_PER_S:
            self._seen_at_ns = now_ns

    def _drive(self, now_ns: int, observation: Observation | None) -> End | None:
        """Asks the operator, then executes the operator's, the policy's or nobody's action."""
        if self._seen is None:
            return None
        command = self.who.operator.poll(self._seen)
        end = self._heed(command, now_ns)
        if end is not None:
            return end
        if self._paused:
            return self._hold(now_ns, observation)
        try:
            requested, source = self._choose(command, now_ns)
        except PolicyFault as fault:
            return End(Ending.POLICY, str(fault))
        return self._execute(now_ns, observation, requested, source)

    def _heed(self, command: OperatorCommand, now_ns: int) -> End | None:
        """The operator's label and event."""
        self.verdict.label = command.outcome or self.verdict.label
        match command.event:
            case OperatorEvent.END:
                return End(Ending.OPERATOR, str(self.verdict.label or ""))
            case OperatorEvent.REDO:
                return End(Ending.REDO)
            case OperatorEvent.STOP:
                return End(Ending.STOP)
            case OperatorEvent.PAUSE:
                self._paused, self._resting = not self._paused, False
                self._pass_control(now_ns)
        return None

    def _pass_control(self, now_ns: int) -> None:
        """Whoever drives from now on starts from the action being applied."""
        if self.driver is not None:
            self.driver.let_go()
        if self._spoke_at_ns is not None:
            self._spoke_at_ns = now_ns
        self._handover = None if self._applied is None else _Handover(self._applied, now_ns)

    def _hold(self, now_ns: int, observation: Observation | None) -> End | None:
        """A tick in a pause: ramps to rest, then commands cease, so that a simulator's time stands still."""
        self.cadence.held()
        if self._resting:
            return None
        if not self.who.command_filter.at_rest:
            return self._execute(now_ns, observation, None, Source.OPERATOR)
        self.who.robot.stop()
        self._resting, self._anchored = True, False
        return None

    def _choose(self, command: OperatorCommand, now_ns: int) -> tuple[FloatArray | None, Source]:
        """The action to request, None if there is none, and who asks for it."""
        if command.action is not None:
            if not self._operator_drives:
                self._pass_control(now_ns)
            self._operator_drives = True
            self._spoke_at_ns = now_ns
            return self._ramped(command.action, now_ns), Source.OPERATOR
        if self.driver is None:
            return None, Source.OPERATOR
        self._operator_drives = False
        return self.driver.requested(now_ns, self._applied), Source.POLICY

    def _ramped(self, action: FloatArray, now_ns: int) -> FloatArray:
        """The operator's action, ramped in from what was applied when control passed. Shapes (A,)."""
        action = np.asarray(action, dtype=self._spec.action.dtype)
        if self._handover is None or action.shape != self._spec.action.shape:
            return action
        ramp_s = self.options.handover_s + self._spec.tick_ns / NS_PER_S
        weight = smooth_weight(((now_ns - self._handover.since_ns + self._spec.tick_ns) / NS_PER_S) / ramp_s)
        return mix(self._spec, self._handover.anchor, action, weight)

    def _execute(
        self, now_ns: int, observation: Observation | None, requested: FloatArray | None, source: Source
    ) -> End | None:
        """Commands, judges and records. Until somebody asks, nothing is sent: at first, and after a stop."""
        if not self._anchored and (requested is None or observation is None):
            return None
        before = self._applied
        applied, reasons = self._command(now_ns, observation, requested)
        judgement = None if self.who.judge is None else self.who.judge.judge()
        if observation is not None:
            reward = 0.0 if judgement is None else judgement.reward
            asked = self._recordable(requested, applied if before is None else before)
            self.who.sink.append(Step(observation, asked, applied, source, reward, reasons))
            self.verdict.count(reward)
        if self.who.command_filter.fault is not None:
            # The filter knows that nothing was seen, the robot why.
            why = f": {self._stale_because}" if observation is None and self._stale_because else ""
            return End(Ending.FILTER, f"{self.who.command_filter.fault}{why}")
        return None if judgement is None else self.verdict.judged(judgement)

    def _command(
        self, now_ns: int, observation: Observation | None, requested: FloatArray | None
    ) -> tuple[FloatArray, int]:
        """Filters and applies: what was really executed, shape (A,), and the filter's reasons."""
        sent_at_ns, alive = self.who.clock.now_ns(), not self._is_silent(now_ns)
        elapsed_ns = self._spec.tick_ns if self._commanded_at_ns is None else sent_at_ns - self._commanded_at_ns
        command, reasons = self.who.command_filter(requested, observation, elapsed_ns / NS_PER_S, alive)
        self._commanded_at_ns, self._commanded_tick_ns, self._anchored = sent_at_ns, now_ns, True
        self.cadence.filtered(reasons)
        self._applied = self.who.robot.apply(command).copy()
        if self._taker is not None:
            self._taker.see_applied(self._applied)
        return self._applied, reasons

    def _recordable(self, requested: FloatArray | None, applied: FloatArray) -> FloatArray:
        """The request as the record can hold it: holding still where there was none or it made no sense."""
        if requested is None or self._spec.action.problem_with(requested):
            return self._spec.hold(applied)
        return requested

    def _is_silent(self, now_ns: int) -> bool:
        """Whether an operator who alone drives has given no action for too long."""
        if self.driver is not None or self._paused or self._spoke_at_ns is None:
            return False
        return now_ns - self._spoke_at_ns > self.options.operator_timeout_s * NS_PER_S

    def _overdue(self, now_ns: int) -> End | None:
        """Whatever has lasted too long."""
        blind_s = (now_ns - self._seen_at_ns) / NS_PER_S
        if blind_s > self.options.stale_timeout_s:
            return End(Ending.SENSOR, f"nothing to act on for {blind_s:.2f} s: {self._stale_because}")
        if self._is_silent(now_ns):
            return End(Ending.SILENCE, f"no action for {self.options.operator_timeout_s:g} s while in control")
        if self.options.max_ticks is not None and self.verdict.ticks >= self.options.max_ticks:
            return End(Ending.TIME_LIMIT, f"{self.options.max_ticks} ticks")
        return None

    def _settle(self, grid: TickGrid, end: End, tick_ns: int, observation: Observation | None) -> None:
        """Brings the robot to rest under the command filter, for a bounded time; `Robot.stop` comes after it.

        Begins in the very tick that ends the episode: a tick without a command is one that an arm's watchdog counts.
        A simulator is not stepped past an episode that ran its course: some refuse, and nothing in it can be hurt. A
        robot that was stopped in a pause is left alone, since a command would ask for motion again.
        """
        if not self._anchored or (self._simulated and not end.ending.is_fault):
            return
        until_ns = self.who.clock.now_ns() + self.options.stop_timeout_s * NS_PER_S
        try:
            if self._commanded_tick_ns != tick_ns:
                self._brake(end, tick_ns, observation)
            while not self.who.command_filter.at_rest and self.who.clock.now_ns() < until_ns:
                tick_ns = grid.wait().stamp_ns
                self._brake(end, tick_ns, self._observe(tick_ns))
        except RobotRLError:
            # A simulator in a person's time may refuse to go past its limit; the robot's own stop is next anyway.
            if not stands_still(self.who.robot):
                raise

    def _brake(self, end: End, tick_ns: int, observation: Observation | None) -> None:
        """A tick on the way to rest; recorded only after a fault, else it belongs to an episode that has ended."""
        if end.ending.is_fault:
            self._execute(tick_ns, observation, None, Source.OPERATOR)
        else:
            self._command(tick_ns, observation, None)
