"""The launch files start what `robot-rl up` starts, and use only what Humble's and Jazzy's launch offer."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from robot_rl.commands.up.node_plan import plan_nodes
from robot_rl.core.errors import RobotRLError

ROOT = Path(__file__).resolve().parents[4]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
ROBOT = {
    "robot": {},
    "arm": {"namespace": "/a"},
    "cameras": {"wrist": {}, "front": {}},
}


class Context(dict[str, str]):
    """What the user gave on the command line."""


class FakeAction:
    """Any action: keeps what it was made with."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.arguments, self.keywords = arguments, keywords


class DeclareLaunchArgument(FakeAction):
    def __init__(self, name: str, *, default_value: str, description: str) -> None:
        super().__init__(name, default_value=default_value, description=description)


class OpaqueFunction(FakeAction):
    def __init__(self, *, function: Any, args: list[Any] | None = None) -> None:
        super().__init__(function=function, args=args or [])

    def execute(self, context: Context) -> list[Any]:
        return self.keywords["function"](context, *self.keywords["args"])


class Shutdown(FakeAction):
    def __init__(self, *, reason: str) -> None:
        super().__init__(reason=reason)


class Node(FakeAction):
    """The parameters of launch_ros's Node and of launch's ExecuteProcess that exist in Humble and Jazzy alike."""

    ALLOWED = (
        *("package", "executable", "name", "namespace", "parameters", "remappings", "arguments", "ros_arguments"),
        *("output", "emulate_tty", "respawn", "respawn_delay", "on_exit", "sigterm_timeout", "sigkill_timeout"),
    )

    def __init__(self, **keywords: Any) -> None:
        assert set(keywords) <= set(self.ALLOWED)
        assert not (keywords.get("respawn") and "on_exit" in keywords)
        assert all(isinstance(keywords[name], str) for name in ("sigterm_timeout", "sigkill_timeout"))
        super().__init__(**keywords)


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: Context) -> str:
        return context[self.name]


@pytest.fixture
def launch(monkeypatch):
    """The few names of launch and launch_ros that the files use."""
    contents = {
        "launch": {"LaunchDescription": lambda entities: entities},
        "launch.actions": {each.__name__: each for each in (DeclareLaunchArgument, OpaqueFunction, Shutdown)},
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Node},
    }
    for name, names in contents.items():
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)


def launched(file: str, **given: str) -> list[Node]:
    """The nodes that a launch file starts with these arguments."""
    module: dict[str, Any] = {}
    exec(compile((ROOT / "launch" / file).read_text(), file, "exec"), module)
    entities = module["generate_launch_description"]()
    declared = {
        entity.arguments[0]: entity.keywords["default_value"]
        for entity in entities
        if isinstance(entity, DeclareLaunchArgument)
    }
    assert set(given) <= set(declared)
    (opaque,) = (entity for entity in entities if isinstance(entity, OpaqueFunction))
    return opaque.execute(Context({**declared, **given}))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "robot.json"
    path.write_text(json.dumps(ROBOT))
    return path


def test_bringup_starts_the_nodes_of_up_with_the_same_parameters(launch, config):
    nodes = launched("bringup.launch.py", config=str(config))
    wanted = [(plan.executable, plan.node_name, [plan.parameters]) for plan in plan_nodes(ROBOT, config)]
    assert [tuple(each.keywords[key] for key in ("executable", "name", "parameters")) for each in nodes] == wanted


def test_cameras_come_back_and_the_end_of_the_arm_node_ends_the_launch(launch, config):
    arm, *cameras = launched("bringup.launch.py", config=str(config))
    assert not arm.keywords.get("respawn")
    assert "look at the arm" in arm.keywords["on_exit"][0].keywords["reason"]
    assert all(camera.keywords["respawn"] for camera in cameras)


def test_the_cameras_file_starts_nothing_that_can_move(launch, config):
    assert {each.keywords["executable"] for each in launched("cameras.launch.py", config=str(config))} == {
        "camera_node"
    }


def test_a_robot_is_named_as_on_the_command_line_of_ros(launch, tmp_path, monkeypatch):
    yaml = tmp_path / "configs/robot/ros/my_arm.yaml"
    yaml.parent.mkdir(parents=True)
    pusht = (ROOT / "configs/robot/pusht.yaml").read_text()
    yaml.write_text(pusht + "arm: {namespace: /a, lockstep: true, driver: {_target_: hardware.sim.pusht.PushTRobot}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBOT_RL_CONFIGS", raising=False)
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros_home"))
    (arm,) = launched("bringup.launch.py", robot="my_arm", overrides="arm.stream_hz=250")
    path = Path(arm.keywords["parameters"][0]["config"])
    assert path.is_relative_to(tmp_path / "ros_home")
    assert json.loads(path.read_text())["arm"]["stream_hz"] == 250


def test_no_robot_is_an_error_that_says_how_to_name_one(launch, tmp_path):
    with pytest.raises(RobotRLError, match="robot:=my_arm"):
        launched("bringup.launch.py")


def test_nothing_to_start_is_an_error(launch, tmp_path):
    (tmp_path / "robot.json").write_text(json.dumps({"robot": {}, "arm": {"namespace": "/a"}}))
    with pytest.raises(RobotRLError, match="none of camera_node"):
        launched("cameras.launch.py", config=str(tmp_path / "robot.json"))


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_imports_nothing_but_the_shared_description(path):
    tree = ast.parse(path.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"robot_rl.commands.up.launch_description"}
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == ["generate_launch_description"]


def test_the_nodes_are_executables_of_the_ros_package():
    code = "from setuptools import setup as real; import setuptools, json; seen = {}"
    code += (
        "; setuptools.setup = lambda **all: seen.update(all); exec(open('setup.py').read(), {'__file__': 'setup.py'})"
    )
    code += "; print(json.dumps([seen['entry_points'], seen['data_files'], seen['package_data']]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    entry_points, data_files, package_data = json.loads(done.stdout)
    names = {each.partition(" = ")[0] for each in entry_points["console_scripts"]}
    assert names >= {"robot-rl", "arm_node", "camera_node"}
    shared = dict(map(tuple, data_files))
    assert {Path(each).name for each in shared["share/robot_rl/launch"]} == {path.name for path in LAUNCH_FILES}
    assert all((ROOT / each).is_file() for paths in shared.values() for each in paths)
    assert shared["share/robot_rl/configs/robot/ros"]
    assert "*/*/*.yaml" in package_data["configs"]
    config = (ROOT / "setup.cfg").read_text()
    assert config.count("$base/lib/robot_rl") == 2


def test_package_xml_names_every_message_package_that_the_nodes_use():
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    depends = {each.text for each in root.findall("exec_depend")}
    used = set()
    for path in (ROOT / "hardware/ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                package, _, rest = node.value.partition("/")
                if rest.startswith(("msg/", "srv/")) and package.isidentifier():
                    used.add(package)
    assert used
    assert used - depends <= {"rmw_dds_common", "ros_discovery_info", "unique_identifier_msgs", "action_msgs"}
    assert {"rclpy", "launch", "launch_ros"} <= depends
