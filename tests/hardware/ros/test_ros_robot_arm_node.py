"""`RosRobot` behind a real arm node: the same robot as in process, and never in control of an arm not its own."""

import copy
import functools
import time

import numpy as np
import pytest

pytest.importorskip("hardware.ros.client")

from hardware.contract import check_robot
from hardware.node_config import build
from hardware.ros import arm_topics
from hardware.ros.arm_session import ArmRefused
from hardware.ros.robot import CannotConnect
from robot_rl.commands.collect import CollectSettings
from robot_rl.config.settings import compose, to_dataclass
from robot_rl.core.clock import HostClock
from robot_rl.core.errors import StaleSensor
from robot_rl.core.protocols import stands_still
from tests.hardware.ros.arms_on_topics import ArmNodeOnTopics, Latched, until_allowed, until_refused

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]


@functools.cache
def _config(name):
    settings = to_dataclass(compose("collect", [f"robot=ros/{name}", "dataset=unused"]), CollectSettings)
    return {"robot": settings.robot, "arm": settings.arm, "limits": settings.limits}


def config_of(name):
    """A robot as its nodes are told; patient, because a test machine is no robot's computer, and without cameras."""
    config = copy.deepcopy(_config(name))
    if name == "sim_joint":
        del config["robot"]["streams"]["image_front"]
        for stream in config["robot"]["streams"].values():
            stream["max_age_s"] = 0.4
        config["robot"]["command"] |= {"ack_timeout_s": 2.0, "silent_s": 3.0}
        config["arm"] |= {"watchdog_s": 5.0, "deadman_timeout_s": 5.0}
    config["robot"]["connect_s"] = 10.0
    return config


def now_ns():
    return time.monotonic_ns()


def hold(robot):
    """The action that asks for what is."""
    return robot.observe(now_ns()).values["joint_position"]


def test_the_simulated_arm_behind_topics_keeps_the_contract():
    config = config_of("sim_joint")
    with ArmNodeOnTopics(config):
        make = functools.partial(build, config["robot"])
        assert check_robot(make, ticks=8, clock=HostClock(), repeatable=False) == []


def test_meta_world_behind_topics_shows_and_judges_what_it_does_in_process():
    from hardware.sim.metaworld import MetaWorldRobot

    config = config_of("sim")
    generator = np.random.default_rng(0)
    with ArmNodeOnTopics(config), build(config["robot"]) as over_topics, MetaWorldRobot() as in_process:
        assert stands_still(over_topics)
        assert over_topics.spec == in_process.spec
        for seed in (3, 4):
            over_topics.reset(seed)
            in_process.reset(seed)
            for tick in range(80):
                seen, wanted = over_topics.observe(tick), in_process.observe(tick)
                assert seen.age_ns == wanted.age_ns
                for stream, value in wanted.values.items():
                    np.testing.assert_array_equal(seen.values[stream], value, err_msg=f"{stream} at tick {tick}")
                action = generator.uniform(-1, 1, 4).astype(np.float32)
                np.testing.assert_array_equal(over_topics.apply(action), in_process.apply(action))
                assert over_topics.judge() == in_process.judge()


def test_a_lockstep_robot_keeps_the_contract_in_made_up_time():
    config = config_of("sim")
    with ArmNodeOnTopics(config):
        assert check_robot(functools.partial(build, config["robot"]), ticks=10, repeatable=False) == []


def test_the_arm_may_be_left_and_taken_again():
    config = config_of("sim_joint")
    with ArmNodeOnTopics(config):
        for seed in range(2):
            with build(config["robot"]) as robot:
                robot.reset(seed)
                robot.apply(hold(robot))
                robot.stop()
                # Going on after a pause, without a reset in between.
                robot.apply(hold(robot))


def test_a_second_session_is_refused_while_the_first_drives():
    config = config_of("sim_joint")
    with ArmNodeOnTopics(config), build(config["robot"]) as first, build(config["robot"]) as second:
        first.reset(0)
        first.apply(hold(first))
        with pytest.raises(ArmRefused, match="is driven by session joint_arm_"):
            second.reset(0)
        first.apply(hold(first))


def test_a_stop_pressed_elsewhere_ends_the_session_with_its_reason():
    config = config_of("sim_joint")
    with ArmNodeOnTopics(config) as arm, build(config["robot"]) as robot:
        robot.reset(0)
        robot.apply(hold(robot))
        Latched(arm, "/sim_joint/stop", arm_topics.STOP.type_name).say(data=True)
        with pytest.raises(ArmRefused, match=r"mode stopped: the stop was pressed.*clear it on /sim_joint/clear"):
            until_refused(lambda: robot.apply(hold(robot)))
        with pytest.raises(ArmRefused, match="mode stopped"):
            robot.reset(1)


def test_an_arm_node_that_ends_leaves_a_stale_robot():
    config = config_of("sim_joint")
    arm = ArmNodeOnTopics(config)
    with arm, build(config["robot"]) as robot:
        robot.reset(0)
        robot.apply(hold(robot))
        arm.node.end()
        with pytest.raises((StaleSensor, ArmRefused)):
            until_refused(lambda: robot.observe(now_ns()))


def test_a_row_without_an_acknowledgement_is_held_counted_and_soon_a_fault():
    config = config_of("sim_joint")
    config["robot"]["command"] |= {"ack_timeout_s": 0.05, "silent_s": 0.2}
    with ArmNodeOnTopics(config) as arm, build(config["robot"]) as robot:
        robot.reset(0)
        start = hold(robot)
        until_allowed(lambda: np.testing.assert_array_equal(robot.apply(start), start))
        before = robot.counters["unacknowledged"]
        arm.deafen()
        elsewhere = start + np.float32(0.01)
        np.testing.assert_array_equal(robot.apply(elsewhere), start)
        assert robot.counters["unacknowledged"] == before + 1
        with pytest.raises(StaleSensor, match="arm_node of /sim_joint has acknowledged nothing for"):
            until_refused(lambda: robot.observe(now_ns()))


def test_an_arm_disabled_by_somebody_else_is_not_enabled_again():
    config = config_of("sim_joint")
    with ArmNodeOnTopics(config) as arm, build(config["robot"]) as robot:
        robot.reset(0)
        robot.apply(hold(robot))
        Latched(arm, "/sim_joint/enable", arm_topics.ENABLE.type_name).say(data=False)
        with pytest.raises(ArmRefused, match="was disabled"):
            until_refused(lambda: robot.observe(now_ns()))


def test_a_robot_that_means_another_action_than_the_arm_node_is_refused_with_the_difference():
    config = config_of("sim_joint")
    other = copy.deepcopy(config["robot"]) | {"connect_s": 1.0}
    other["action"]["high"] = [2.0] * 7
    with (
        ArmNodeOnTopics(config),
        pytest.raises(CannotConnect, match="driver and this robot differ in action"),
        build(other),
    ):
        pass


def test_a_robot_that_does_not_know_that_time_stands_still_is_refused():
    config = config_of("sim")
    other = copy.deepcopy(config["robot"]) | {"connect_s": 1.0}
    other["command"] = {"adapter": "arm_node"}
    with ArmNodeOnTopics(config), pytest.raises(CannotConnect, match="lockstep is True there"), build(other):
        pass
