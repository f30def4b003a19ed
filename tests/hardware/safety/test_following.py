"""An arm driven by velocities, as by MoveIt Servo: it has nothing to make good, so only the fault remains."""

import numpy as np
import pytest

from hardware.arm.interpolator import CommandInterpolator
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, ArraySpec, RobotSpec

ROW_HZ, STREAM_HZ, SPEED = 20.0, 100.0, 0.2
SPEC = RobotSpec(
    "servo",
    {"tool": ArraySpec((1,), "float64", "m")},
    ArraySpec((1,), "float64", "m/tick", low=-0.01, high=0.01),
    (ActionKind.RATE,),
    ROW_HZ,
)
LIMITS = {
    "low": [-0.01],
    "high": [0.01],
    "max_step": [0.01],
    "max_velocity": [SPEED],
    "max_acceleration": [1.0],
    "max_jerk": [20.0],
    "max_age_s": {"tool": 0.05},
    "ramp_after_s": 0.1,
    "fault_after_s": 0.5,
    "measured": {0: {"stream": "tool", "index": 0, "low": -5.0, "high": 5.0}},
    "following": {"lag_s": 0.1, "wait": 0.021, "fault": 0.06},
}


def drive(seconds, frozen_from_s):
    """Full speed; a tool that follows at once until it is frozen. What was said, and the last command."""
    interpolator = CommandInterpolator(CommandLimits.for_spec(SPEC, LIMITS), STREAM_HZ)
    interpolator.restart(np.zeros(1))
    place, command = 0.0, 0.0
    for tick in range(round(seconds * STREAM_HZ)):
        now_ns = NS_PER_S + round(tick * NS_PER_S / STREAM_HZ)
        place += command if tick / STREAM_HZ < frozen_from_s else 0.0
        seen = Observation(now_ns, {"tool": np.array([place])}, {"tool": 0})
        if tick % 5 == 0:
            interpolator.take(np.array([0.009]), now_ns, now_ns, seen)
        command = float(interpolator.tick(now_ns, 1 / STREAM_HZ, seen).command[0])
    return interpolator, command


def test_one_that_follows_is_left_alone():
    interpolator, command = drive(4.0, frozen_from_s=9.0)
    assert (interpolator.not_following, interpolator.waits) == ("", 0)
    assert command == pytest.approx(0.009 / 5, rel=1e-3)


def test_one_that_does_not_move_is_not_waited_for_and_soon_a_fault():
    interpolator, _ = drive(1.2, frozen_from_s=1.0)
    assert (interpolator.not_following, interpolator.waits) == ("", 0)
    interpolator, _ = drive(2.0, frozen_from_s=1.0)
    assert "action dimension 0 does not follow" in interpolator.not_following
