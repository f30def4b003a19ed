"""An arm node on real rclpy obeys a session on our client, and the other way round: episode, stop, clear, episode."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hardware.ros.client")

from tests.hardware.ros.mixed.episode import STEP_RAD, TICKS
from tests.hardware.ros.mixed.neighbour import ROOT, STOP_S, clean
from tests.hardware.ros.test_ros_robot_arm_node import config_of

pytestmark = pytest.mark.ros
EPISODE = Path(__file__).with_name("episode.py")
PATIENCE_S = 90.0


@pytest.fixture
def robot_json(tmp_path: Path) -> Path:
    """A simulated arm as its node and its session are told."""
    path = tmp_path / "robot.json"
    path.write_text(json.dumps(config_of("sim_joint") | {"cameras": {}}))
    return path


@pytest.fixture
def our_environment(ros_domain: dict[str, str]) -> dict[str, str]:
    """What a process on our client needs to join this test's domain."""
    joined = {name: ros_domain[name] for name in ("ROS_DOMAIN_ID", "CYCLONEDDS_URI")}
    return clean(joined | {"ROBOT_RL_ROS": "pip"})


@contextmanager
def arm_node(python: Path, environment: dict[str, str], config: Path) -> Iterator[None]:
    command = [str(python), "-m", "hardware.ros.arm_node", "--ros-args", "-p", f"config:={config}"]
    running = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield
    finally:
        running.terminate()
        try:
            running.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()


def episode(python: Path, environment: dict[str, str], config: Path) -> dict[str, Any]:
    """What a session says."""
    done = subprocess.run(
        [str(python), str(EPISODE), str(config)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def check(said: dict[str, Any]) -> None:
    for moved_rad in (said["moved_rad"], said["moved_again_rad"]):
        assert 0.25 * TICKS * STEP_RAD < moved_rad <= 1.05 * TICKS * STEP_RAD
    assert "mode stopped: the stop was pressed" in said["refused"]


def test_an_arm_node_on_rclpy_obeys_a_session_on_our_client(
    real_python: Path, neighbour_environment: dict[str, str], our_environment: dict[str, str], robot_json: Path
):
    with arm_node(real_python, neighbour_environment, robot_json):
        check(episode(Path(sys.executable), our_environment, robot_json))


def test_an_arm_node_on_our_client_obeys_a_session_on_rclpy(
    real_python: Path, neighbour_environment: dict[str, str], our_environment: dict[str, str], robot_json: Path
):
    with arm_node(Path(sys.executable), our_environment, robot_json):
        check(episode(real_python, neighbour_environment, robot_json))
