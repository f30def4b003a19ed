"""The arm itself keeps its limits: a few trials of benchmarks/runtime/true_speed.py, which has the whole table."""

import numpy as np
import pytest

from benchmarks.runtime.true_speed import MOST, SCENARIOS, settings_with_following
from benchmarks.runtime.true_speed_leader import run_leader_trial
from benchmarks.runtime.true_speed_pilot import ANCHORED_RAD, run_trial
from hardware.sim.troubles import FalseKind

BY_NAME = {each.name: each for each in SCENARIOS}


@pytest.fixture(scope="module")
def robot():
    return settings_with_following()


def trial_of(robot, name, seed):
    scenario = BY_NAME[name]
    interrupt = None if scenario.interrupt is None else scenario.interrupt(seed)
    return run_trial(robot, seed, scenario.troubles(np.random.default_rng(seed)), interrupt, scenario.arm)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        "no trouble",
        "pauses of up to 50 ms, one a second",
        "false sample: zeros, middle",
        "false sample: turn, reset",
        "false sample: garbage, start",
        "frozen for 0.1 s",
        "frozen for 3 s",
        "speed scaled to 10 % for 1 s",
        "two publishers, 0.4 rad apart, 0.5 s",
        "50 % of commands lost for 2 s",
        "silent for 0.4 s, then a reset",
    ],
)
def test_no_joint_is_faster_than_its_limit_and_motion_begins_anew_where_the_arm_is(robot, name, seed):
    trial = trial_of(robot, name, seed)
    assert trial.over <= MOST, trial
    assert trial.apart_rad <= ANCHORED_RAD, trial
    assert trial.came_back, trial


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_arm_without_trouble_goes_on_and_is_not_waited_for(robot, seed):
    trial = trial_of(robot, "no trouble", seed)
    assert trial.said == []
    assert trial.waited == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_an_arm_that_stands_still_is_a_fault_that_names_joint_command_and_measurement(robot, seed):
    trial = trial_of(robot, "frozen for 3 s", seed)
    assert trial.said[0].startswith("fault: action dimension")
    assert "commanded" in trial.said[0]
    assert "measured" in trial.said[0]


@pytest.mark.parametrize("shows", [FalseKind.ZEROS, FalseKind.TURN, FalseKind.GARBAGE])
def test_a_leader_arm_that_lies_moves_no_joint_that_the_person_does_not(robot, shows):
    trial = run_leader_trial(robot, 1, shows)
    assert trial.astray_rad < 1e-6
    assert "is lost" in trial.said[0]
