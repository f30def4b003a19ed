"""Episodes at a real arm node whose watchdog is as long as two ticks, which is what every yaml of ours has at 20 Hz.

At a twentieth of that rate, so that a busy machine is not taken for a missing command.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hardware.ros.client")

from hardware.arm.state import Mode
from hardware.node_config import build
from robot_rl.core.clock import HostClock
from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.runtime.ending import Ending, ending_of
from robot_rl.sessions.setup import build_filter
from tests.hardware.ros.arms_on_topics import ArmNodeOnTopics
from tests.hardware.ros.test_ros_robot_arm_node import config_of
from tests.robot_rl.rollout_fakes import TimelineOperator, run

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]

HZ = 1.0
END = OperatorCommand(event=OperatorEvent.END, outcome=Outcome.SUCCESS)
PAUSE = OperatorCommand(event=OperatorEvent.PAUSE)


def slow_config():
    config = config_of("sim_joint")
    config["robot"]["control_hz"] = config["arm"]["driver"]["control_hz"] = HZ
    config["arm"]["watchdog_s"] = 2.0 / HZ
    config["limits"]["max_step"] = [0.75] * 6 + [float("inf")]
    del config["robot"]["command"]["ack_timeout_s"]
    config["limits"]["following"]["fault"] = 3.0
    config["limits"]["max_age_s"] = {"joint_position": 0.4, "tool_pose": 0.4}
    return config


class Reaching(TimelineOperator):
    """Turns the first joint as far as it goes."""

    def poll(self, observation):
        if self.polls == 0:
            target = observation.values["joint_position"].copy()
            target[0] += 3.0
            self.idle = OperatorCommand(target)
        return super().poll(observation)


@pytest.mark.parametrize(
    ("timeline", "ending"),
    [
        ({3: END}, Ending.OPERATOR),
        ({3: PAUSE, 4: OperatorCommand(event=OperatorEvent.STOP)}, Ending.STOP),
    ],
    ids=["ended", "stopped in a pause"],
)
def test_an_episode_ends_without_the_arm_nodes_watchdog_and_keeps_its_reason(timeline, ending):
    config = slow_config()
    with ArmNodeOnTopics(config) as arm, build(config["robot"]) as robot:
        command_filter = build_filter(robot.spec, config["limits"])
        result, sink, _ = run(
            robot=robot, operator=Reaching(timeline), clock=HostClock(), command_filter=command_filter, judge=None,
            operator_timeout_s=5.0, stale_timeout_s=5.0, stop_timeout_s=9.0,
        )  # fmt: skip
        assert ending_of(result) is ending, result.reason
        assert "then" not in result.reason
        assert np.ptp([step.applied[0] for step in sink.steps]) > 0.5, "it was moving"
        assert arm.node._loop.state.mode is Mode.INACTIVE
