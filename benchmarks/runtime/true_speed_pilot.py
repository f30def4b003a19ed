"""One trial of `true_speed.py`: an arm in trouble behind an arm node's own logic, in stepped time, and its judgement.

A pilot does what a session does, as stubbornly as a stored episode: rows at 20 Hz along a plan that swings every joint
to and fro, faster than the arm may go, whatever the arm does meanwhile. When the arm node has latched, a person waits a
while, clears, and the pilot begins an episode anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hardware.arm.controller import ArmController
from hardware.arm.mail import Mail, ResetMail, RowMail
from hardware.arm.messages import ArmMode, Row
from hardware.arm.settings import ArmSettings
from hardware.arm.state import LATCHED, Clear, Enable, Heartbeat, Mode
from hardware.sim.joint_arm import JOINTS
from hardware.sim.troubled_arm import TroubledArm, TrueMotion
from hardware.sim.troubles import Trouble
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import NS_PER_S, FloatArray

Array = npt.NDArray[np.float64]
EPOCH_NS = 1_700_000_000 * NS_PER_S
STREAM_HZ, ROW_HZ = 100.0, 20.0
BEAT_TICKS = 5
SESSION = "pilot"
SETTLE_S = 0.3
EPISODE_S = 2.5
AFTERWARDS_S = 1.0
"""Episodes after the first are so long."""
CLEAR_S = (0.2, 4.0)
"""When a person clears, after the arm node has latched."""
MOST_EPISODES = 6
RESTING = 0.02
"""A joint slower than this rests [rad/s]."""
PAUSED_NS = NS_PER_S // 10
"""A command so long after the one before begins motion anew."""
ANCHORED_RAD = 0.01
"""The first command of any motion is this near to where the arm is: one step of the stream, and the lag's."""


class Plan(NamedTuple):
    """Where every joint is asked to be: a triangle wave.

    Attributes:
        slope: Of each joint [rad/s]. Shape (6,).
        amplitude: Likewise [rad].
    """

    slope: Array
    amplitude: Array

    @classmethod
    def drawn(cls, generator: np.random.Generator) -> Plan:
        """Between a walk and twice what the arm may do, either way, and some joints at rest."""
        slope = generator.uniform(0.3, 1.5, len(JOINTS)) * generator.choice([-1.0, 0.0, 1.0], len(JOINTS))
        slope[0] = generator.choice([-1.0, 1.0]) * generator.uniform(0.6, 0.75)
        return cls(slope, generator.uniform(0.3, 0.8, len(JOINTS)))

    def at(self, elapsed_s: float) -> Array:
        """Displacement of each joint [rad]. Shape (6,)."""
        phase = abs(self.slope) * elapsed_s / self.amplitude % 4.0
        wave = np.where(phase < 1.0, phase, np.where(phase < 3.0, 2.0 - phase, phase - 4.0))
        return np.sign(self.slope) * self.amplitude * wave


class WatchedArm(TroubledArm):
    """Notes what it was told, and where it was then.

    Attributes:
        told: Time [ns], command and place, by its own zeros, shapes (6,).
    """

    def __init__(self, **settings: Any) -> None:
        self.told: list[tuple[int, Array, Array]] = []
        super().__init__(**settings)

    def apply(self, action: FloatArray) -> FloatArray:
        """Moves like the arm it is, and notes the command and the place."""
        joints = len(JOINTS)
        place = self.true_joints_rad + self._offset[:joints]
        self.told.append((self._clock.now_ns(), np.array(action[:joints], np.float64), place))
        return super().apply(action)


@dataclass
class Trial:
    """What came of it.

    Attributes:
        over: Largest true speed of a joint over its limit, a hand's own motion apart.
        worst: When that was after the trouble began [s], and the joint.
        said: Why the arm node latched, in order.
        waited: Commands that waited for the arm.
        rest_s: From the trouble until every joint rested after the arm node had latched [s]; None if it had not.
        apart_rad: Farthest that a first command was from where the arm was [rad].
        astray_rad: How far joints went that nobody moved [rad]; only where a leader arm lies.
        came_back: In the end an episode ran to its end.
        began: Times of what went wrong, after the beginning [s].
    """

    over: float = 0.0
    worst: str = ""
    said: list[str] = field(default_factory=list)
    waited: int = 0
    rest_s: float | None = None
    apart_rad: float = 0.0
    astray_rad: float = 0.0
    came_back: bool = False
    began: list[str] = field(default_factory=list)


class Stand:
    """A controller, its arm, and a clock that both share; times are stepped by the commands' ticks.

    Args:
        settings: The whole robot, as nodes read it.
        seed: Of plan, arm and people.
        troubles: Of the arm.
        arm: More of `TroubledArm`.
    """

    def __init__(
        self, settings: Mapping[str, Any], seed: int, troubles: Sequence[Trouble], arm: Mapping[str, Any] | None = None
    ) -> None:
        self.generator = np.random.default_rng(seed)
        self.clock = SimulatedClock(NS_PER_S)
        self.limits = settings["limits"]
        self.arm = WatchedArm(troubles=troubles, seed=seed, clock=self.clock, **(arm or {}))
        self.modes: list[tuple[int, ArmMode]] = []
        self.seen: Observation | None = None
        node = ArmSettings(**{**copy.deepcopy(settings["arm"]), "driver": {}})
        self.loop = ArmController(self.arm, node, self.limits, ROW_HZ, self)
        self._ticks = 0
        self._beating = False
        self._allowed_ns: list[tuple[int, bool]] = []
        self.loop.begin(self.now_ns, self.robot_ns)

    # Outlet

    def show(self, observation: Observation) -> None:
        """Kept, as a session would see it."""
        self.seen = observation

    def acknowledge(self, row: Row) -> None:
        """Nobody listens."""

    def judge(self, stamp_ns: int, judgement: Judgement) -> None:
        """It never judges."""

    def tell(self, mode: ArmMode) -> None:
        """Kept with its time."""
        self.modes.append((self.now_ns, mode))

    # Time

    @property
    def now_ns(self) -> int:
        """Monotonic [ns]."""
        return self.clock.now_ns()

    @property
    def robot_ns(self) -> int:
        """On the robot's clock [ns]."""
        return EPOCH_NS + self.now_ns

    @property
    def mode(self) -> ArmMode:
        """The newest."""
        return self.modes[-1][1]

    def hear(self, mail: Mail) -> None:
        """Something came."""
        self.loop.receive(mail, self.now_ns, self.robot_ns)

    def tick(self) -> None:
        """The next tick of the stream, a little late, as ticks are."""
        self._ticks += 1
        due_ns = NS_PER_S + round(self._ticks * NS_PER_S / STREAM_HZ)
        self.clock.sleep_until_ns(due_ns + int(self.generator.integers(0, 300_000)))
        if self._beating and self._ticks % BEAT_TICKS == 0:
            self.hear(Heartbeat(SESSION))
        self.loop.tick(due_ns, self.now_ns, self.robot_ns)

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Ticks for a while, or until something is so; whether it is."""
        for _ in range(round(seconds * STREAM_HZ)):
            if until():
                return True
            self.tick()
        return until()

    # As a session

    def begin(self, seed: int) -> bool:
        """Enables and resets; whether an episode began."""
        episode = self.mode.episode
        self._beating = True
        self.hear(Enable(True))
        self.hear(ResetMail(SESSION, seed, self.robot_ns))
        self.wait(8.0, lambda: self.mode.episode > episode or self.mode.mode in LATCHED)
        return self.mode.episode > episode and self.mode.mode is Mode.ACTIVE

    def drive(
        self, rows: Callable[[float], FloatArray], seconds: float, interrupt: Callable[[Stand], None] | None = None
    ) -> bool:
        """Sends what `rows` gives for a time since the beginning [s], shape (7,); whether the arm stayed active."""
        every = round(STREAM_HZ / ROW_HZ)
        for tick in range(round(seconds * STREAM_HZ)):
            if self.mode.mode is not Mode.ACTIVE:
                return False
            if tick % every == 0:
                self.hear(RowMail(self.robot_ns, SESSION, rows(tick / STREAM_HZ).astype(np.float32)))
            if interrupt is not None:
                interrupt(self)
            self.tick()
        return self.mode.mode is Mode.ACTIVE

    def planned(self, plan: Plan) -> Callable[[float], FloatArray]:
        """Rows along a plan from where the arm is said to be."""
        assert self.seen is not None
        start = np.array(self.seen.values["joint_position"][:-1], dtype=np.float64)
        return lambda elapsed_s: np.append(start + plan.at(elapsed_s), 1.0)

    def end(self) -> None:
        """Takes motion away."""
        self.hear(Enable(False))
        self._beating = False
        self.wait(1.0)

    def clear(self) -> None:
        """A person, after a while."""
        self._beating = False
        self.wait(self.generator.uniform(*CLEAR_S))
        self.hear(Clear("pilot"))


def run_trial(
    settings: Mapping[str, Any],
    seed: int,
    troubles: Sequence[Trouble],
    interrupt: Callable[[Stand], None] | None = None,
    arm: Mapping[str, Any] | None = None,
) -> Trial:
    """A whole trial: episodes until one has come to its end after the trouble."""
    stand = Stand(settings, seed, troubles, arm)
    plan, trial = Plan.drawn(stand.generator), Trial()
    stand.wait(SETTLE_S)
    for episode in range(1, MOST_EPISODES + 1):
        seconds, interrupt = (EPISODE_S, interrupt) if episode == 1 else (AFTERWARDS_S, None)
        whole = stand.begin(seed + episode) and stand.drive(stand.planned(plan), seconds, interrupt)
        if stand.mode.mode in LATCHED:
            trial.said.append(f"{stand.mode.mode}: {stand.mode.reason}")
            stand.clear()
        else:
            stand.end()
        if whole and episode > 1:
            trial.came_back = True
            break
    stand.wait(AFTERWARDS_S)
    judge(trial, stand)
    return trial


def apart_rad(told: Sequence[tuple[int, Array, Array]]) -> float:
    """Farthest that a first command, with none in the 100 ms before it, was from where the arm was [rad]."""
    farthest, last_ns = 0.0, -NS_PER_S
    for at_ns, command, place in told:
        if at_ns - last_ns > PAUSED_NS:
            farthest = max(farthest, float(abs(command - place).max()))
        last_ns = at_ns
    return farthest


def judge(trial: Trial, stand: Stand) -> None:
    """What the joints really did."""
    motion = stand.arm.true_motion()
    limit = np.array(stand.limits["max_velocity"][: len(JOINTS)])
    share = motion.speeds() / limit
    at, joint = np.unravel_index(int(share.argmax()), share.shape)
    begun_ns = stand.arm.events[0][0] if stand.arm.events else int(motion.times_ns[0])
    trial.over = float(share.max())
    trial.worst = f"joint {joint} {(int(motion.times_ns[at]) - begun_ns) / NS_PER_S:+.2f} s"
    trial.began = [f"{(at_ns - NS_PER_S) / NS_PER_S:.2f} s {words}" for at_ns, words in stand.arm.events]
    trial.apart_rad = apart_rad(stand.arm.told)
    trial.waited = stand.loop.counters.waits
    latched_ns = [at_ns for at_ns, mode in stand.modes if mode.mode in LATCHED and at_ns >= begun_ns]
    if latched_ns:
        trial.rest_s = rest_after(motion, begun_ns, latched_ns[0])


def rest_after(motion: TrueMotion, begun_ns: int, latched_ns: int) -> float:
    """From a trouble to the first moment after the arm node latched from which the joints rest for 100 ms [s]."""
    after = motion.after(latched_ns)
    moves = np.asarray((abs(np.diff(after.joints_rad, axis=0)) * 100.0 > RESTING).any(axis=1))
    window = 10
    for index in range(len(moves)):
        if not moves[index : index + window].any():
            return (int(after.times_ns[index]) - begun_ns) / NS_PER_S
    return float("inf")
