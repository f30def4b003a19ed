"""The contract check finds nothing wrong with a good robot and names the fault of every broken one."""

import re

import numpy as np
import pytest

from hardware.contract import check_robot
from robot_rl.core.protocols import ROBOT_CAPABILITIES
from tests.hardware import broken_declarations, broken_robots
from tests.hardware.broken_robots import ForgetsItsSeed, PlanarArm

BROKEN = [
    each
    for module in (broken_robots, broken_declarations)
    for each in vars(module).values()
    if isinstance(each, type) and hasattr(each, "fault")
]


def test_a_robot_that_keeps_the_contract_has_no_violations():
    assert check_robot(PlanarArm) == []


def test_a_robot_with_every_capability_is_kept_alive_and_keeps_the_contract():
    beats = []

    class Able(PlanarArm):
        watched = True
        landmarks_box = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

        def keep_alive(self):
            beats.append(self)

        def ahead(self):
            return np.full(2, np.nan)

        def picture(self):
            return None

        def landmarks(self):
            return {"hand": np.zeros(3), "goal": np.ones(3, np.float32)}

    assert all(isinstance(Able(), each) for each in ROBOT_CAPABILITIES)
    assert check_robot(Able, ticks=9) == []
    assert len(beats) >= 9


@pytest.mark.parametrize("robot", BROKEN, ids=lambda robot: robot.__name__)
def test_a_broken_robot_is_caught_and_its_fault_named(robot):
    violations = check_robot(robot)
    assert any(re.search(robot.fault, violation) for violation in violations), violations


@pytest.mark.parametrize("robot", BROKEN, ids=lambda robot: robot.__name__)
def test_a_fault_is_told_in_few_lines(robot):
    assert len(check_robot(robot, ticks=60)) <= 4


def test_a_robot_that_moves_by_the_time_between_commands_does_not_stand_still(monkeypatch):
    slept_s = []
    monkeypatch.setattr("hardware.contract.time.sleep", slept_s.append)

    class Integrates(PlanarArm):
        def move(self, action):
            return super().move(np.clip(action * (0.5 + sum(slept_s)), -0.1, 0.1))

        def reset(self, seed):
            super().reset(seed)
            slept_s.clear()

    assert any("time between the actions changed the trajectory" in each for each in check_robot(Integrates))


def test_a_real_robot_is_driven_on_its_clock_and_not_asked_to_repeat_itself():
    class Watch:
        now = 123_000_000_000
        slept = 0

        def now_ns(self):
            return self.now

        def sleep_until_ns(self, deadline_ns):
            self.slept += deadline_ns > self.now
            self.now = max(self.now, deadline_ns)

    class Real(ForgetsItsSeed):
        simulated_time = False

    watch = Watch()
    assert check_robot(Real, clock=watch, repeatable=False, ticks=9) == []
    assert watch.slept == 8
