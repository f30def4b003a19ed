"""Every yaml of `configs/robot/ros/` composes, and its parts fit each other; nothing is connected."""

import functools
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from hardware.arm.controller import ArmController
from hardware.arm.settings import ArmSettings, at_rate
from hardware.node_config import build, read_section
from hardware.ros.robot import RosRobot
from hardware.safety.dimensions import LimitError
from hardware.safety.limits import CommandLimits
from robot_rl.commands.collect import CollectSettings
from robot_rl.config.settings import compose, to_dataclass
from robot_rl.core.specs import ActionKind
from robot_rl.sessions.setup import build_filter, build_robot

NAMES = sorted(path.stem for path in Path("configs/robot/ros").glob("*.yaml"))
VENDORS = {
    "ur5e": ("joint_forward", "/forward_position_controller/commands"),
    "fr3": ("cartesian_pose", "/target_pose"),
    "xarm7": ("joint_trajectory", "/xarm7_traj_controller/joint_trajectory"),
    "so101": ("joint_forward", "/follower/forward_controller/commands"),
    "servo_arm": ("servo_twist", "/servo_node/delta_twist_cmds"),
}
PUBLISHED_SPEED = {
    "ur5e": np.pi,
    "xarm7": np.pi,
    "so101": 45 / 60 * 2 * np.pi,
}
"""Largest joint speed of the vendor's data sheet [rad/s]."""


@functools.cache
def settings_of(name):
    """Not to be changed: it is shared."""
    return to_dataclass(compose("collect", [f"robot=ros/{name}", "dataset=unused"]), CollectSettings)


def test_there_is_a_yaml_for_every_vendor_and_simulation():
    assert set(NAMES) >= {"sim", "sim_joint", *VENDORS}


@pytest.mark.parametrize("name", NAMES)
def test_a_robot_is_described_and_its_limits_fit_it(name):
    settings = settings_of(name)
    robot = build_robot(settings.robot)
    assert isinstance(robot, RosRobot)
    build_filter(robot.spec, settings.limits)
    assert set(settings.limits["max_age_s"]) == set(robot.spec.observations)
    assert settings.task.max_ticks > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_the_robot_acts_on_and_what_the_filter_may_act_on_are_equally_old(name):
    settings = settings_of(name)
    for stream, age_s in settings.limits["max_age_s"].items():
        assert age_s == settings.robot["streams"][stream]["max_age_s"]


@pytest.mark.parametrize("name", NAMES)
def test_the_arm_nodes_driver_is_the_same_arm(name):
    settings = settings_of(name)
    arm = read_section("arm", settings.arm, ArmSettings)
    arm.rules(settings.robot["control_hz"])
    driver, robot = build(arm.driver), build_robot(settings.robot)
    theirs = at_rate(driver.spec, robot.spec.control_hz)
    CommandLimits.for_spec(theirs, settings.limits)
    shown = robot.spec.select([stream for stream in robot.spec.observations if stream in theirs.observations])
    assert shown.unmet_by(theirs) == []
    missing = set(robot.spec.observations) - set(theirs.observations)
    assert missing == set(robot.spec.images) - set(theirs.observations), "only cameras have nodes of their own"
    assert arm.namespace == settings.robot["namespace"]


@pytest.mark.parametrize("name", NAMES)
def test_displacements_are_driven_at_the_rate_of_the_stream(name):
    settings = settings_of(name)
    driver = build(settings.arm["driver"])
    if ActionKind.RATE in driver.spec.action_kinds and not settings.arm["lockstep"]:
        assert driver.spec.control_hz == settings.arm["stream_hz"]


@pytest.mark.parametrize("name", NAMES)
def test_every_camera_of_a_robot_is_one_of_its_nodes_or_somebody_elses_absolute_topic(name):
    settings = settings_of(name)
    robot = build_robot(settings.robot)
    ours = {f"{camera['namespace']}/image_raw/compressed" for camera in settings.cameras.values()}
    for image in robot.spec.images:
        topic = robot.config.streams[image].topic
        assert topic.startswith("/") or robot.config.topic(topic) in ours


@pytest.mark.parametrize(("name", "sends"), VENDORS.items())
def test_a_vendors_commands_go_where_its_driver_listens(name, sends):
    driver = build(settings_of(name).arm["driver"])
    assert (driver.config.adapter, driver._commands.adapter.outlet.topic) == sends


@pytest.mark.parametrize(("name", "published"), PUBLISHED_SPEED.items())
def test_joints_move_at_no_more_than_a_quarter_of_the_published_speed(name, published):
    limits = settings_of(name).limits
    speeds = [speed for speed in limits["max_velocity"] if np.isfinite(speed)]
    assert max(speeds) <= published / 4
    assert max(speeds) > published / 5


@pytest.mark.parametrize("name", ["fr3", "servo_arm"])
def test_tools_move_at_no_more_than_the_defaults(name):
    assert settings_of(name).limits["max_velocity"][:6] == [0.25] * 3 + [0.6] * 3


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_that_is_left_out_is_named(name):
    settings = settings_of(name)
    spec = build_robot(settings.robot).spec
    for key in set(settings.limits) - {"measured", "start", "following"}:
        without = {each: value for each, value in settings.limits.items() if each != key}
        with pytest.raises(LimitError, match=rf"limits\.{key} is missing"):
            CommandLimits.for_spec(spec, without)


@pytest.mark.parametrize("name", NAMES)
def test_a_following_limit_that_is_left_out_is_named_where_time_goes_on_by_itself(name):
    settings = settings_of(name)
    without = {key: value for key, value in settings.limits.items() if key != "following"}
    arm, driver = read_section("arm", settings.arm, ArmSettings), build(settings.arm["driver"])
    outlet = types.SimpleNamespace()
    if arm.lockstep:
        ArmController(driver, arm, without, settings.robot["control_hz"], outlet)
        return
    with pytest.raises(LimitError, match=r"limits\.following is missing"):
        ArmController(driver, arm, without, settings.robot["control_hz"], outlet)


@pytest.mark.parametrize("name", NAMES)
def test_a_tick_at_full_speed_is_a_legal_step(name):
    settings = settings_of(name)
    limits, hz = settings.limits, settings.robot["control_hz"]
    for step, speed in zip(limits["max_step"], limits["max_velocity"], strict=True):
        assert step == speed or step == pytest.approx(speed / hz, rel=0.02)


@pytest.mark.parametrize("name", [name for name in VENDORS if name != "so101"])
def test_a_driver_that_says_how_its_arm_is_must_allow_motion(name):
    status = build(settings_of(name).arm["driver"]).config.status
    assert status
    for condition in status:
        assert condition.latched or condition.max_age_s is not None


def test_an_arm_that_says_nothing_of_itself_is_said_to_be_one():
    assert not build(settings_of("so101").arm["driver"]).config.status
    assert "no `status` here" in Path("configs/robot/ros/so101.yaml").read_text().replace("\n# ", " ")


@pytest.mark.parametrize("name", VENDORS)
def test_limits_and_topics_are_cited_by_repository_and_file(name):
    text = Path(f"configs/robot/ros/{name}.yaml").read_text()
    cited = re.findall(r"[\w./]+/[\w.]+\.(?:yaml|cpp|hpp|h|msg|xacro|urdf|py)\b", text)
    assert len(cited) >= 2


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sim"])
def test_an_arm_waits_at_about_its_lag_and_fails_clearly_beyond(name):
    settings = settings_of(name)
    limits = CommandLimits.for_spec(build_robot(settings.robot).spec, settings.limits)
    limits.require_following(settings.arm["stream_hz"])
    for wait, fault in zip(limits.following.wait, limits.following.fault, strict=True):
        assert fault == np.inf or fault > 1.5 * wait


def test_meta_world_over_topics_is_the_robot_that_policies_were_trained_on():
    from hardware.sim.metaworld import MetaWorldRobot

    assert build_robot(settings_of("sim").robot).spec == MetaWorldRobot().spec


def test_the_limits_of_meta_world_over_topics_are_those_of_meta_world():
    own = to_dataclass(compose("collect", ["robot=metaworld", "dataset=unused"]), CollectSettings).limits
    over_topics = settings_of("sim").limits
    streams = over_topics["max_age_s"]
    assert {**own, "max_age_s": {name: own["max_age_s"][name] for name in streams}} == over_topics


def test_a_robot_on_topics_is_described_without_ros_and_asks_for_it_only_when_entered():
    code = """
import sys
sys.modules.update(dict.fromkeys(["rclpy", "cyclonedds", "rosbags"]))
from hardware.ros.robot import RosRobot
from robot_rl.core.errors import RobotRLError
joints = {"kind": "joints", "topic": "joint_states", "joints": ["a"], "max_age_s": 1.0,
    "max_speed": 3.0, "margin": 0.1}
robot = RosRobot("arm", "/arm", 20.0, {"q": joints},
    {"names": ["a"], "unit": ["rad"], "kinds": ["position"]}, {"adapter": "joint_forward", "topic": "commands"})
try:
    robot.__enter__()
except (RobotRLError, ModuleNotFoundError, ValueError) as error:
    print(type(error).__name__, error)
"""
    free = {**os.environ, "ROBOT_RL_ROS": ""}
    said = subprocess.run([sys.executable, "-c", code], env=free, capture_output=True, text=True, check=True).stdout
    assert said.startswith("RobotRLError ROS 2 is not available"), said
