"""An arm behind an impedance controller, driven with the limits of a vendor's yaml: tool and target stay in the box."""

from __future__ import annotations

import numpy as np
import pytest

from hardware.arm.interpolator import CommandInterpolator
from hardware.arm.settings import at_rate
from hardware.node_config import build
from hardware.ros.command_settings import make_adapter
from hardware.safety.limits import CommandLimits
from robot_rl.commands.collect import CollectSettings
from robot_rl.config.settings import compose, to_dataclass
from robot_rl.core.episode import Observation

pytest.importorskip("rosbags")
client = pytest.importorskip("hardware.ros.client")

HZ, PERIOD_NS = 100.0, 10_000_000
ROW_EVERY = 5
LAG_S = 0.1
WALL_M = 0.65
"""fr3.yaml: `limits.measured.x.high`."""


class SpringArm:
    """A tool that closes the gap to its target as an overdamped spring does, unless somebody holds it."""

    def __init__(self, x: float) -> None:
        self.pose = np.array([x, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
        self.target = self.pose.copy()
        self.held = False

    def pass_a_tick(self) -> None:
        if not self.held:
            self.pose[:3] += (self.target[:3] - self.pose[:3]) / (LAG_S * HZ)


class Drive:
    """The fr3's command interpolator and adapter with a spring arm behind them."""

    def __init__(self, x: float) -> None:
        settings = to_dataclass(compose("collect", ["robot=ros/fr3", "dataset=unused"]), CollectSettings)
        driver = build(settings.arm["driver"])
        limits = CommandLimits.for_spec(at_rate(driver.spec, settings.robot["control_hz"]), settings.limits)
        self.arm = SpringArm(x)
        self.interpolator = CommandInterpolator(limits, HZ)
        self.adapter = make_adapter(driver.config, client.message)
        self.adapter.keep_within(limits)
        self.interpolator.restart(limits.start_pose(self.seen()))
        self.adapter.start(self.values)
        self.ticks = 0
        self.cut = 0.0

    @property
    def values(self):
        return {"tool_pose": self.arm.pose}

    def seen(self):
        values = {"joint_position": np.zeros(7, np.float32), "tool_pose": self.arm.pose.astype(np.float32)}
        return Observation(self.ticks * PERIOD_NS if hasattr(self, "ticks") else 0, values, dict.fromkeys(values, 0))

    def tick(self, speed_x: float, held: bool = False) -> None:
        now_ns = self.ticks * PERIOD_NS
        if self.ticks % ROW_EVERY == 0:
            row = np.array([speed_x * ROW_EVERY / HZ, 0, 0, 0, 0, 0, 0])
            self.interpolator.take(row, now_ns, now_ns, self.seen())
        ahead = np.append(self.adapter.ahead(self.values), np.nan)
        made = self.interpolator.tick(now_ns, 1 / HZ, self.seen(), None, ahead)
        message, applied = self.adapter.command(made.command[:6], self.values, now_ns)
        place = message.pose.position
        self.arm.target[:3] = place.x, place.y, place.z
        self.cut = max(self.cut, float(np.abs(applied - made.command[:6]).max()))
        self.arm.held = held
        self.arm.pass_a_tick()
        self.ticks += 1


@pytest.mark.parametrize("held_for", [20, 60, 300])
def test_a_tool_held_at_a_wall_while_the_operator_pushes_stays_inside_when_it_is_let_go(held_for):
    drive = Drive(WALL_M - 0.01)
    farthest = []
    for tick in range(held_for + 200):
        drive.tick(0.25, held=tick < held_for)
        farthest.append((drive.arm.target[0], drive.arm.pose[0]))
    assert np.max(farthest) <= WALL_M + 1e-9


def test_a_tool_that_is_let_go_makes_good_within_its_velocity_limit():
    drive, speeds = Drive(0.35), []
    for tick in range(250):
        before = drive.arm.pose[0]
        drive.tick(0.25 if tick < 150 else 0.0, held=60 <= tick < 100)
        speeds.append((drive.arm.pose[0] - before) * HZ)
    assert 0.2 < max(speeds) <= 1.05 * 0.25


def test_the_last_guards_never_act_in_ordinary_use():
    drive = Drive(0.45)
    for tick in range(1000):
        drive.tick(0.25 * np.sign(np.sin(tick / 25.0)))
    assert drive.cut < 1e-12
