"""Trials of `true_speed.py` in which the leader arm lies: a person leads, and for a moment its readings are false.

The operator is the one of `robot-rl collect operator=leader_arm`; between it and the arm node's logic stands nothing.
The person turns one joint to and fro and keeps on after the false readings; the arm should hold, and be led again only
once both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.runtime.true_speed_pilot import (
    Array,
    Plan,
    Stand,
    Trial,
    judge,
)
from hardware.operators.leader.following import LeaderFollowing, LeaderLayout
from hardware.operators.leader.operator import LeaderArmOperator, LeaderReading
from hardware.operators.leader.watch import LeaderWatch
from hardware.operators.terminal.key_events import KeyEvents
from hardware.sim.joint_arm import GRIPPER, JOINTS, NAMES
from hardware.sim.troubles import FalseKind
from robot_rl.core.specs import FloatArray

LED_S = 3.0
WITHIN_RAD, RAMP_S = 0.1, 0.4
MOST_RAD_S, MARGIN_RAD = 6.0, 0.1
LIES_S = (0.8, 1.8)
LIE = "false reading of the leader"


class TabOnce:
    """A terminal on which a person presses Tab, once the operator listens."""

    def __init__(self) -> None:
        self._looks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to restore."""

    def read(self) -> bytes:
        """Keys since the last call; the first look throws away what was typed before."""
        self._looks += 1
        return b"\t" if self._looks == 2 else b""

    def write(self, text: str) -> None:
        """Shows nothing."""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines; nothing is shown."""
        return 80, 24


class LyingLeader:
    """A leader arm whose readings are false for a while.

    Attributes:
        place: Where the person has it. Shape (7,).
        lies: How many readings are still to be false.
    """

    name = "lying leader"

    def __init__(self, shows: FalseKind, joint: int, generator: np.random.Generator) -> None:
        self.place = np.zeros(len(NAMES))
        self.lies = 0
        self._shows, self._joint, self._generator = shows, joint, generator
        self._last = self.place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def reading(self) -> LeaderReading:
        """Where it says that it is."""
        shown = self.place
        if self.lies > 0:
            self.lies -= 1
            shown = self._false()
        else:
            self._last = shown.copy()
        return LeaderReading(dict(zip(NAMES, shown.tolist(), strict=True)))

    def _false(self) -> Array:
        turned = self.place.copy()
        turned[self._joint] += 2 * np.pi
        return {
            FalseKind.ZEROS: np.zeros(len(NAMES)),
            FalseKind.TURN: turned,
            FalseKind.SIGN: -self.place,
            FalseKind.GARBAGE: self._generator.uniform(-10.0, 10.0, len(NAMES)),
            FalseKind.STALE: self._last,
            FalseKind.NAN: np.full(len(NAMES), np.nan),
        }[self._shows]


def layout(robot: str) -> dict[str, Any]:
    """Every joint follows its namesake."""
    following = [
        {"dimension": index, "joint": name, "stream": "joint_position", "index": index}
        for index, name in enumerate(JOINTS)
    ]
    switching = {"dimension": GRIPPER, "joint": GRIPPER, "first": 0.0, "second": 1.0, "threshold": 0.5, "margin": 0.05}
    return {robot: {"following": following, "switching": [switching]}}


def run_leader_trial(settings: Mapping[str, Any], seed: int, shows: FalseKind) -> Trial:
    """A person leads; one to five readings are false at a random moment."""
    stand = Stand(settings, seed, ())
    generator, trial, said = stand.generator, Trial(), list[str]()
    leader = LyingLeader(shows, int(generator.integers(0, 6)), generator)
    spec = stand.loop.spec
    operator = LeaderArmOperator(
        spec,
        leader,
        LeaderFollowing(spec, LeaderLayout.for_spec(spec, layout(spec.name)), WITHIN_RAD, RAMP_S),
        KeyEvents(TabOnce()),
        LeaderWatch(NAMES, MOST_RAD_S, MARGIN_RAD),
        say=said.append,
    )
    slope = np.zeros(len(JOINTS))
    slope[0] = generator.choice([-1.0, 1.0]) * generator.uniform(0.3, 0.6)
    plan = Plan(slope, np.full(len(JOINTS), 0.4))
    stand.wait(0.3)
    with operator:
        operator.reset(seed)
        if stand.begin(seed):
            samples = int(generator.choice([1, 2, 5])) if shows is not FalseKind.STALE else 10
            rows = led(stand, leader, operator, plan, float(generator.uniform(*LIES_S)), samples)
            trial.came_back = stand.drive(lambda elapsed_s: rows(elapsed_s, said), LED_S)
    stand.end()
    judge(trial, stand)
    # The person turns the first joint only.
    others = stand.arm.true_motion().joints_rad[:, 1:]
    trial.astray_rad = float(abs(others - others[0]).max())
    trial.said = said[said.index(LIE) + 1 :][:1] if LIE in said else []
    return trial


def led(
    stand: Stand, leader: LyingLeader, operator: LeaderArmOperator, plan: Plan, lies_s: float, samples: int
) -> Callable[[float, list[str]], FloatArray]:
    """Rows as the operator asks for them; holding where it asks for nothing."""
    assert stand.seen is not None
    start = np.array(stand.seen.values["joint_position"], dtype=np.float64)
    last, lied = start.copy(), list[bool]()

    def rows(elapsed_s: float, said: list[str]) -> FloatArray:
        nonlocal last
        leader.place = start + np.append(plan.at(elapsed_s), 0.0)
        if elapsed_s >= lies_s and not lied:
            lied.append(True)
            leader.lies = samples
            stand.arm.events.append((stand.now_ns, LIE))
            said.append(LIE)
        assert stand.seen is not None
        action = operator.poll(stand.seen).action
        last = last if action is None else np.array(action, dtype=np.float64)
        operator.see_applied(last.astype(np.float32))
        return last

    return rows
