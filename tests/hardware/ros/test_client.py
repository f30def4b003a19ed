"""Which ROS a node gets, and what a machine without any is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardware.ros.client import missing_text

ROOT = Path(__file__).parents[3]
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
"""
ASK = """
from hardware.ros import client
sys.stdout.write(str(client.BACKEND) + "\\n" + "\\n".join(client.problems()) + "\\n")
try:
    client.require_ros()
except Exception as error:
    sys.stdout.write(type(error).__name__)
"""


def ask(
    blocked: tuple[str, ...], choice: str = "", code: str = ASK, path: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ROBOT_RL_ROS": choice, "PYTHONPATH": path}
    program = BLOCK.format(blocked=blocked) + code
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("blocked", [("cyclonedds",), ("rosbags",), ("cyclonedds", "rosbags")])
def test_a_machine_without_the_wheels_is_told_what_is_missing(blocked: tuple[str, ...]):
    ran = ask((*blocked, "rclpy"))
    assert ran.returncode == 0, ran.stderr
    backend, problem, error = ran.stdout.splitlines()
    assert backend == "None"
    assert error == "RobotRLError"
    assert "Next: " in problem
    for name in blocked:
        assert name in problem


def test_everything_outside_hardware_ros_works_without_the_wheels():
    code = "import robot_rl.cli, robot_rl.sessions.parallel, hardware.sim.metaworld, data.recorder.writer"
    ran = ask(("cyclonedds", "rosbags", "rclpy"), code=code)
    assert ran.returncode == 0, ran.stderr


def test_asking_for_rclpy_where_it_is_not_says_so():
    ran = ask(("rclpy",), choice="rclpy")
    assert "rclpy cannot be imported" in ran.stdout


def test_a_typing_mistake_in_the_choice_is_named():
    ran = ask((), choice="ros2")
    assert ran.returncode != 0
    assert "ROBOT_RL_ROS is 'ros2'" in ran.stderr


def test_a_ros_of_another_python_version_is_passed_over(tmp_path: Path):
    """A sourced ROS puts its packages on the path of every Python; their libraries load in one."""
    package = tmp_path / "rclpy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "node.py").write_text("from rclpy import _rclpy_pybind11\n")
    ran = ask((), path=str(tmp_path))
    assert ran.stdout.splitlines()[0] == "pip", ran.stderr


@pytest.mark.parametrize(("machine", "python"), [("aarch64", (3, 12)), ("x86_64", (3, 14))])
def test_where_no_wheel_exists_the_advice_is_not_to_install_it(
    machine: str, python: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hardware.ros.client.CHOICE", "")
    text = missing_text(["cyclonedds"], machine, python)
    assert "no wheel" in text
    assert "pip install" not in text
