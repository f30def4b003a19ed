"""The arm of `joint_arm.py` with a body: true joints that move by physics of their own, and that are not what is shown.

The true joints follow their servo in steps of a millisecond of the arm's own time, whether anyone looks or not, and are
kept for whoever judges. Between them and what is commanded and shown stands whatever `troubles` schedules: a brake, a
hand, a speed slider, lost commands, false samples, silence. Deterministic for a seed, a clock, and the times of calls.

As in a real arm, a reset moves nothing: the arm stays where it is, and the troubles of an episode are drawn from its
seed. What goes on at that moment goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from hardware.sim.joint_arm import GRIPPER_SPEED, HOME_RAD, JOINTS, JointArm, MachineTime, tool_pose
from hardware.sim.servo import Array, Servo, ServoSettings
from hardware.sim.troubles import (
    EncoderOffset,
    FalseKind,
    FalseSamples,
    Frozen,
    LostCommands,
    OtherPublisher,
    Pushed,
    Scheduled,
    Silent,
    Since,
    SpeedScaled,
    Trouble,
    scheduled,
    trouble_from,
)
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S, FloatArray

STEP_NS = 1_000_000
RECORD_NS = 10 * STEP_NS
GARBAGE_RAD = 10.0
_T = TypeVar("_T", bound=Trouble)


class TrueMotion(NamedTuple):
    """What the joints really did, at 100 Hz.

    Attributes:
        times_ns: On the arm's clock [ns]. Shape (N,).
        joints_rad: Shape (N, 6).
        by_hand: Where a hand moved the joint since the record before. Shape (N, 6).
    """

    times_ns: npt.NDArray[np.int64]
    joints_rad: Array
    by_hand: npt.NDArray[np.bool_]

    def speeds(self) -> Array:
        """Differences of the joints from record to record [rad/s], 0 where a hand moved them. Shape (N - 1, 6)."""
        moved = np.diff(self.joints_rad, axis=0) / (np.diff(self.times_ns)[:, None] / NS_PER_S)
        return np.where(self.by_hand[1:], 0.0, np.abs(moved))

    def after(self, now_ns: int) -> TrueMotion:
        """The part since a time [ns]."""
        first = int(np.searchsorted(self.times_ns, now_ns))
        return TrueMotion(self.times_ns[first:], self.joints_rad[first:], self.by_hand[first:])


class TroubledArm:
    """A robot whose streams and action are `JointArm`'s, and whose body and troubles are not.

    Args:
        control_hz: Rate at which actions are meant to come.
        lag_s: How far the servo is behind an even motion [s].
        order: Of the servo, 1 or 2.
        stiction_rad: Gap that a joint at rest does not close [rad].
        max_speed: Fastest joint [rad/s].
        max_age_s: Oldest sample that is shown [s].
        pauses_per_s: How often the arm stops dead for a moment of its own.
        longest_pause_s: Of these moments [s].
        troubles: Scheduled ones, or what a yaml says of them.
        seed: Of everything before the first reset.
        record: Where `true_motion` and `events` are written on leaving, a .npz file; empty for nowhere.
        clock: The arm's own time; the machine's if None.

    Attributes:
        events: What went wrong when, on the arm's clock [ns].

    Raises:
        RobotRLError: A setting makes no sense.
    """

    def __init__(
        self,
        control_hz: float = 20.0,
        lag_s: float = 0.05,
        order: int = 1,
        stiction_rad: float = 0.0,
        max_speed: float = 3.0,
        max_age_s: float = 0.05,
        pauses_per_s: float = 0.0,
        longest_pause_s: float = 0.05,
        troubles: Sequence[Trouble | Mapping[str, Any]] = (),
        seed: int = 0,
        record: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or MachineTime()
        self.spec = JointArm(control_hz, lag_s, max_speed, self._clock).spec
        home = np.array([*HOME_RAD, 1.0])
        speeds = np.array([*(max_speed,) * len(JOINTS), GRIPPER_SPEED])
        self._servo = Servo(ServoSettings(lag_s, order, stiction_rad), home, speeds)
        self._max_age_ns, self._path = round(max_age_s * NS_PER_S), record
        self._pauses_per_s, self._longest_pause_s = pauses_per_s, longest_pause_s
        self._troubles = [each if isinstance(each, Trouble) else trouble_from(each) for each in troubles]
        self.events: list[tuple[int, str]] = []
        self._at_ns = self._clock.now_ns()
        self._first_ns = self._at_ns
        self._offset = np.zeros(len(home))
        self._target = home.copy()
        self._times_ns: list[int] = []
        self._places: list[Array] = []
        self._hands: list[Array] = []
        self._by_hand = np.zeros(len(JOINTS), dtype=bool)
        self._hand_from: dict[Scheduled, float] = {}
        self._shown = home.copy()
        self._shown_ns: int | None = None
        self._other = home.copy()
        self._generator = np.random.default_rng(seed)
        self._scheduled: list[Scheduled] = []
        self._told: set[Scheduled] = set()
        self._samples_left: dict[Scheduled, int] = {}
        self._episode, self._moved, self._every_second = 0, False, False
        self._pause_ns = self._next_pause(self._at_ns)
        self._schedule(Since.START)
        self._keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._path:
            motion = self.true_motion()
            events = np.array([f"{at_ns} {words}" for at_ns, words in self.events])
            np.savez(self._path, **motion._asdict(), events=events)

    # As a robot

    def reset(self, seed: int) -> None:
        """Holds where it is; the troubles of the episode are drawn."""
        self._advance()
        self._generator = np.random.default_rng(seed)
        self._scheduled = [each for each in self._scheduled if each.lasts_at(self._at_ns)]
        self._episode, self._moved = self._episode + 1, False
        self._schedule(Since.RESET)
        for each in self._troubles:
            if isinstance(each, EncoderOffset) and each.happens_in(self._episode):
                self._offset[each.joint] = each.offset_rad
                self.events.append((self._at_ns, each.kind))
        self.stop()

    def observe(self, tick_ns: int) -> Observation:
        """What it says of its joints and tool, and how old that is.

        Raises:
            StaleSensor: It has been silent for longer than `max_age_s`.
        """
        self._advance()
        if self._shown_ns is None or self._now(Silent) is None:
            self._shown, self._shown_ns = self._sample(), tick_ns
        age_ns = tick_ns - self._shown_ns
        if age_ns > self._max_age_ns:
            age_ms, limit_ms = age_ns / 1e6, self._max_age_ns / 1e6
            raise StaleSensor(f"joint_position is {age_ms:.0f} ms old, limit is {limit_ms:.0f} ms: the arm is silent")
        values = {"joint_position": self._shown.astype(np.float32), "tool_pose": _pose(self._shown).astype(np.float32)}
        return Observation(tick_ns, values, dict.fromkeys(values, age_ns))

    def apply(self, action: FloatArray) -> FloatArray:
        """Sets the servo's target, kept within its bounds, unless the command is lost.

        Raises:
            RobotRLError: The action is unusable.
        """
        requested = np.asarray(action, dtype=np.float32)
        problem = self.spec.action.problem_with(requested)
        if problem:
            raise RobotRLError(f"the simulated arm cannot execute the action: {problem}")
        self._advance()
        if not self._moved:
            self._moved = True
            self._schedule(Since.MOTION)
        low, high = self.spec.action.bounds()
        applied = np.clip(requested, low, high).astype(np.float32)
        applied[-1] = 1.0 if applied[-1] > 0.5 else 0.0
        lost = self._now(LostCommands)
        if lost is None or self._generator.random() >= lost.share:
            self._target = applied.astype(np.float64) - self._offset
        return applied

    def stop(self) -> None:
        """Its servo holds every joint where it is."""
        self._advance()
        self._target = self._servo.place.copy()

    # As a body

    @property
    def true_joints_rad(self) -> Array:
        """Where the joints really are now. Shape (6,)."""
        self._advance()
        return self._servo.place[: len(JOINTS)].copy()

    def true_motion(self) -> TrueMotion:
        """Everything that the joints really did so far."""
        self._advance()
        shape = (-1, len(JOINTS))
        return TrueMotion(
            np.array(self._times_ns, dtype=np.int64),
            np.array(self._places).reshape(shape),
            np.array(self._hands, dtype=bool).reshape(shape),
        )

    def _schedule(self, since: Since) -> None:
        begun = [each for each in self._troubles if each.since is since and each.happens_in(self._episode)]
        self._scheduled += [scheduled(each, self._at_ns, self._generator) for each in begun]

    def _next_pause(self, now_ns: int) -> tuple[int, int]:
        """Beginning and end of the next moment in which the arm stops dead [ns]."""
        if not self._pauses_per_s:
            return now_ns, now_ns
        begin_ns = now_ns + round(self._generator.exponential(1 / self._pauses_per_s) * NS_PER_S)
        return begin_ns, begin_ns + round(self._generator.uniform(0.0, self._longest_pause_s) * NS_PER_S)

    def _going_on(self, kind: type[_T]) -> list[tuple[Scheduled, _T]]:
        """Troubles of a kind that last now."""
        found = [
            (each, each.trouble)
            for each in self._scheduled
            if isinstance(each.trouble, kind) and each.lasts_at(self._at_ns)
        ]
        for each, trouble in found:
            if each not in self._told:
                self._told.add(each)
                self.events.append((self._at_ns, trouble.kind))
        return found

    def _now(self, kind: type[_T]) -> _T | None:
        found = self._going_on(kind)
        return found[0][1] if found else None

    def _advance(self) -> None:
        """Lives up to the clock's present."""
        now_ns = self._clock.now_ns()
        while self._at_ns + STEP_NS <= now_ns:
            self._live_a_step()
            self._at_ns += STEP_NS
            if (self._at_ns - self._first_ns) % RECORD_NS == 0:
                self._keep()

    def _live_a_step(self) -> None:
        step_s = STEP_NS / NS_PER_S
        if not self._scheduled:
            self._servo.step(self._target, step_s, self._pace())
            return
        held = [(each, pushed) for each, pushed in self._going_on(Pushed)]
        self._servo.step(self._target, step_s, self._pace())
        for each, pushed in held:
            self._give_way(each, pushed)

    def _pace(self) -> float:
        """Share of the servo's pace that it has now."""
        begin_ns, end_ns = self._pause_ns
        if end_ns <= self._at_ns:
            self._pause_ns = self._next_pause(self._at_ns)
        elif begin_ns <= self._at_ns:
            return 0.0
        if self._scheduled and self._going_on(Frozen):
            return 0.0
        scaled = self._now(SpeedScaled) if self._scheduled else None
        return 1.0 if scaled is None else scaled.scale

    def _give_way(self, each: Scheduled, pushed: Pushed) -> None:
        """The joint is where a hand has it."""
        joint = pushed.joint
        begun_rad = self._hand_from.setdefault(each, float(self._servo.place[joint]))
        share = min(1.0, (self._at_ns + STEP_NS - each.begin_ns) / (pushed.push_s * NS_PER_S))
        self._servo.place[joint] = begun_rad + pushed.by_rad * (1.0 - np.cos(np.pi * share)) / 2
        self._servo.velocity[joint] = 0.0
        self._by_hand[joint] = True

    def _keep(self) -> None:
        self._times_ns.append(self._at_ns)
        self._places.append(self._servo.place[: len(JOINTS)].copy())
        self._hands.append(self._by_hand.copy())
        self._by_hand[:] = False

    # As it shows itself

    def _sample(self) -> Array:
        """What a new sample says of the joints and the gripper. Shape (7,)."""
        shown = self._servo.place + self._offset
        for each, false in self._going_on(FalseSamples):
            left = self._samples_left.setdefault(each, false.samples)
            if left > 0:
                self._samples_left[each] = left - 1
                shown = self._false(false, shown)
        for each, other in self._going_on(OtherPublisher):
            if each not in self._samples_left:
                self._samples_left[each] = 0
                self._other = shown + other.away_rad
            self._every_second = not self._every_second
            if self._every_second:
                shown = self._other
        return shown

    def _false(self, false: FalseSamples, shown: Array) -> Array:
        match false.shows:
            case FalseKind.ZEROS:
                return np.zeros(len(shown))
            case FalseKind.SIGN:
                return -shown
            case FalseKind.GARBAGE:
                return self._generator.uniform(-GARBAGE_RAD, GARBAGE_RAD, len(shown))
            case FalseKind.STALE:
                return self._shown
            case FalseKind.NAN:
                return np.full(len(shown), np.nan)
            case FalseKind.TURN:
                turned = shown.copy()
                turned[false.joint] += 2 * np.pi
                return turned


def _pose(shown: Array) -> Array:
    """The tool where the joints are said to be; NaN where they are. Shape (7,)."""
    if not np.isfinite(shown).all():
        return np.full(7, np.nan)
    return tool_pose(shown[: len(JOINTS)])
