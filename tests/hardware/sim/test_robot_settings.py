"""The yaml files of the simulated robots: they build, and their limits leave the simulators' tasks unchanged."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from hardware.safety.filter import FilterState, OperatorState, filter_command
from hardware.safety.limits import CommandLimits
from hardware.sim.metaworld import MetaWorldRobot, task_names
from hardware.sim.pusht import PushTRobot

CONFIGS = Path(__file__).parents[3] / "configs"


def limits_of(robot):
    """A robot's command limits as its yaml writes them."""
    document = OmegaConf.to_container(OmegaConf.load(CONFIGS / "robot" / f"{robot.spec.name}.yaml")["limits"])
    return CommandLimits.for_spec(robot.spec, document)


@pytest.mark.parametrize("make", [MetaWorldRobot, PushTRobot])
def test_the_filter_passes_every_action_of_the_simulators_action_space(make):
    robot = make()
    limits, spec = limits_of(robot), robot.spec
    low, high = spec.action.bounds()
    generator = np.random.default_rng(0)
    robot.reset(0)
    seen = robot.observe(0)
    state = FilterState.at(limits.start_pose(seen))
    for tick in range(400):
        asked = generator.uniform(low, high).astype(np.float32)
        if tick % 2:
            asked = np.where(generator.random(low.shape) < 0.5, low, high).astype(np.float32)
        applied, reasons, state = filter_command(
            asked, state, seen, OperatorState(), 1.0 / spec.control_hz, limits, spec
        )
        assert reasons == 0, f"{reasons!r} at tick {tick}"
        assert np.array_equal(applied, asked)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml")))
def test_every_task_names_something_that_exists(name):
    task = OmegaConf.load(CONFIGS / "task" / f"{name}.yaml")
    assert task.name in (*task_names(), "pusht")
    assert 0 < task.max_ticks <= 500
    assert task.instruction
