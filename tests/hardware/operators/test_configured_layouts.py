"""The layouts in `configs/operator/` fit the robots in `configs/robot/ros/`, and each control moves what it names."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from hardware.operators.devices.device_operator import DeviceOperator
from hardware.operators.devices.gamepad import gamepad_operator
from hardware.operators.devices.spacemouse import spacemouse_operator
from hardware.operators.drive import Drive
from hardware.operators.layout import Layout
from hardware.operators.terminal.keyboard import KeyboardOperator
from hardware.ros.robot_config import RobotConfig
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind

CONFIGS = Path(__file__).parents[3] / "configs"
ROBOTS = ("sim", "sim_joint", "ur5e", "fr3", "xarm7", "so101", "servo_arm")
DEVICES = {"keyboard": KeyboardOperator, "gamepad": gamepad_operator, "spacemouse": spacemouse_operator}


def spec_of(robot):
    """The spec that a robot's yaml describes."""
    whole = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"robot/ros/{robot}.yaml"), resolve=False)
    settings = OmegaConf.to_container(OmegaConf.create({key: whole[key] for key in ("robot", "limits")}), resolve=True)
    robot_settings = {key: value for key, value in settings["robot"].items() if not key.startswith("_")}
    return RobotConfig.parse(**{"gripper": None, "status": None, **robot_settings}).spec


def written(device):
    """The operator's settings in its yaml."""
    settings = yaml.safe_load((CONFIGS / f"operator/{device}.yaml").read_text())["operator"]
    return {key: value for key, value in settings.items() if not key.startswith("_")}


def observation(spec, place=0.1):
    streams = {
        name: np.full(stream.shape, place, dtype=stream.dtype)
        for name, stream in spec.observations.items()
        if not stream.is_image
    }
    return Observation(0, streams, dict.fromkeys(streams, 0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_every_device_has_a_layout_for_every_robot(robot, device):
    spec = spec_of(robot)
    operator = DEVICES[device](spec, **written(device))
    assert isinstance(operator, KeyboardOperator | DeviceOperator)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_each_control_moves_its_own_dimension_and_no_other(robot, device):
    spec = spec_of(robot)
    layout = Layout.for_spec(spec, written(device)["layouts"])
    for entry in layout.moving:
        drive = Drive(spec, layout)
        drive.anchor(observation(spec))
        still = drive.action(observation(spec), lambda control: 0.0)
        for control in entry.controls:
            moved = drive.action(observation(spec), lambda control, used=control: float(control == used)) - still
            index = spec.action.names.index(entry.dimension) if isinstance(entry.dimension, str) else entry.dimension
            assert np.flatnonzero(moved).tolist() == [index]
            still = still + (0.0 if spec.action_kinds[index] is ActionKind.RATE else moved)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_no_dimension_of_a_robot_is_left_without_a_control_except_where_the_device_has_too_few(robot, device):
    spec = spec_of(robot)
    layout = Layout.for_spec(spec, written(device)["layouts"])
    driven = sum(bool(entry.controls) for entry in layout.entries)
    assert driven == spec.action.shape[0] - ((robot, device) == ("xarm7", "spacemouse"))


@pytest.mark.parametrize("device", DEVICES)
def test_the_first_state_of_a_gripper_is_open(device):
    for robot in ROBOTS:
        layout = Layout.for_spec(spec_of(robot), written(device)["layouts"])
        assert all("open / closed" in switch.meaning for switch in layout.switching)
