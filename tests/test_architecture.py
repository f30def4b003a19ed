"""The house rules that a reader relies on, read from the imports. `docs/development.md` says them in words."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("robot_rl", "hardware", "policies", "data")
PLAIN = frozenset({*sys.stdlib_module_names, "numpy", "__future__"})

SCIPY_IN_CORE = {"robot_rl.core.confidence": frozenset({"scipy"})}
"""Who in the core may import more than numpy, and only where a function needs it."""

CORE = ("robot_rl.core",)
BELOW_RUN = (*CORE, "data", "policies", "robot_rl.learning")
BELOW_SESSIONS = (*CORE, "data", "policies", "hardware", "robot_rl.config", "robot_rl.runtime")
BELOW_COMMANDS = (*BELOW_SESSIONS, "robot_rl.learning", "robot_rl.run", "robot_rl.sessions", "robot_rl.reports")
FIRST_COMMANDS = tuple(f"robot_rl.commands.{each}" for each in ("train", "evaluate", "collect", "export"))

ROOMS: Mapping[str, tuple[str, ...]] = {
    "robot_rl.core": (),
    "data": CORE,
    "data.training": CORE,
    "data.archive": CORE,
    "data.recorder": (*CORE, "data.archive"),
    "data.convert": (*CORE, "data.archive"),
    "policies": CORE,
    "hardware": CORE,
    "hardware.safety": CORE,
    "hardware.arm": (*CORE, "hardware.safety", "hardware.node_config"),
    "hardware.cameras": (*CORE, "hardware.sync"),
    "hardware.sim": (*CORE, "hardware.safety", "hardware.point_cloud"),
    "hardware.operators": CORE,
    "hardware.operators.terminal": (*CORE, "hardware.operators"),
    "hardware.operators.devices": (*CORE, "hardware.operators"),
    "hardware.operators.leader": (*CORE, "hardware.operators"),
    "hardware.operators.simulated": (*CORE, "hardware.operators", "hardware.sim"),
    "hardware.ros": (*CORE, "hardware"),
    "robot_rl.config": CORE,
    "robot_rl.runtime": CORE,
    "robot_rl.learning": (*CORE, "policies", "data.training"),
    "robot_rl.run": BELOW_RUN,
    "robot_rl.sessions": (*BELOW_SESSIONS, "robot_rl.run.checkpoint", "robot_rl.learning.collected"),
    "robot_rl.reports": (*CORE, "data"),
    "robot_rl.commands": BELOW_COMMANDS,
    "robot_rl.commands.distill": (*BELOW_COMMANDS, *FIRST_COMMANDS),
    "robot_rl.commands.improve": (*BELOW_COMMANDS, *FIRST_COMMANDS),
    "robot_rl.commands.demo": (*BELOW_COMMANDS, "robot_rl.commands"),
    "robot_rl.cli": CORE,
    "benchmarks": (*BELOW_COMMANDS, "robot_rl.cli", "robot_rl.commands", "tests"),
}
"""Room to the rooms it may import, besides itself. The longest name that fits a file is its room."""

APART = (
    ("robot_rl.learning.offline", "robot_rl.learning.online"),
    ("robot_rl.learning.online", "robot_rl.learning.offline"),
    ("robot_rl.learning", "robot_rl.learning.baselines"),
    ("hardware.operators.devices", "hardware.operators.leader"),
)
"""Who never imports whom although the table would let it."""

COMMANDS = "robot_rl.commands"
NO_TORCH = ("robot_rl.core", "robot_rl.config", "robot_rl.runtime", "hardware", "data")
DEPLOY_PATH = (
    "robot_rl.commands.collect",
    "robot_rl.commands.deploy",
    "robot_rl.runtime.rollout",
    "policies.onnx_policy",
    "hardware.safety.filter",
    "data.recorder.writer",
)


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def module_files() -> dict[str, Path]:
    paths = [path for package in (*PACKAGES, "benchmarks") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


FILES = module_files()


def imports(code: str) -> set[str]:
    """Every module that code imports, anywhere in it, lazily or not; of ours by the file's name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return found


IMPORTS = {name: imports(path.read_text()) for name, path in FILES.items() if path.name != "__init__.py"}


def room_of(name: str) -> str:
    """The room of a file: a command is a room of its own."""
    fitting = [room for room in ROOMS if within(name, room)]
    room = max(fitting, key=len, default="")
    return ".".join(name.split(".")[:3]) if room == COMMANDS else room


def allowed(room: str) -> tuple[str, ...]:
    return ROOMS.get(room, BELOW_COMMANDS if within(room, COMMANDS) else ())


def upward(name: str, found: Iterable[str]) -> list[str]:
    """The imports of a file that run against the table, each as a sentence."""
    room = room_of(name)
    ours = sorted(other for other in found if other.split(".")[0] in (*PACKAGES, "benchmarks", "tests"))
    wrong = [o for o in ours if room_of(o) != room and not any(within(o, each) for each in allowed(room))]
    for here, there in APART:
        wrong += [other for other in ours if within(name, here) and not within(name, there) and within(other, there)]
    return [f"{name} imports {other}: {room} may import {', '.join(allowed(room)) or 'nothing'}" for other in wrong]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Files that import each other, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_every_file_has_a_room():
    homeless = {name for name in IMPORTS if not room_of(name)} - {"robot_rl.cli"}
    assert not homeless, f"{sorted(homeless)}: put each in a room of ROOMS"


def test_every_room_exists_and_may_import_only_what_exists():
    for room in {*ROOMS, *(each for others in ROOMS.values() for each in others)}:
        assert room in FILES or (ROOT / room.replace(".", "/")).is_dir(), f"there is no {room}"


def test_every_import_goes_down():
    wrong = [sentence for name, found in IMPORTS.items() for sentence in upward(name, found)]
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other():
    assert circle({name: found & set(FILES) for name, found in IMPORTS.items()}) == []


def test_the_core_needs_only_numpy_and_the_standard_library():
    for name, found in IMPORTS.items():
        if within(name, "robot_rl.core"):
            plain = PLAIN | SCIPY_IN_CORE.get(name, frozenset())
            foreign = {other for other in found if other.split(".")[0] not in plain and not within(other, name[:13])}
            assert not foreign, f"{name} imports {foreign}"


@pytest.mark.parametrize("name", SCIPY_IN_CORE)
def test_the_core_loads_scipy_only_where_it_is_asked(name):
    code = f"import sys, {name}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


ACROSS = {
    "robot_rl.core.x": "robot_rl.config.settings",
    "data.archive.x": "data.recorder.writer",
    "data.training.x": "hardware.sync",
    "data.training.y": "data.archive.store",
    "policies.x": "robot_rl.learning.imitation",
    "hardware.safety.x": "hardware.arm.controller",
    "hardware.arm.x": "hardware.ros.client",
    "hardware.cameras.x": "hardware.ros.client",
    "hardware.sim.x": "hardware.operators.drive",
    "hardware.operators.x": "hardware.operators.devices.evdev",
    "hardware.ros.x": "robot_rl.runtime.rollout",
    "robot_rl.config.x": "robot_rl.runtime.rollout",
    "robot_rl.runtime.x": "hardware.safety.filter",
    "robot_rl.learning.x": "data.archive.store",
    "robot_rl.learning.offline.x": "robot_rl.learning.online.advantages",
    "robot_rl.learning.online.x": "robot_rl.learning.offline.critic",
    "robot_rl.learning.imitation": "robot_rl.learning.baselines.rlpd",
    "robot_rl.run.x": "robot_rl.sessions.setup",
    "robot_rl.sessions.x": "robot_rl.run.metrics",
    "robot_rl.reports.x": "robot_rl.learning.offline.gate",
    "robot_rl.commands.train.x": "robot_rl.commands.evaluate",
    "robot_rl.commands.finetune.x": "robot_rl.commands.improve.steps",
    "robot_rl.commands.improve.x": "robot_rl.commands.demo",
    "robot_rl.cli": "robot_rl.commands.train.main",
    "robot_rl.commands.demo": "benchmarks.runtime.latency",
}


@pytest.mark.parametrize(("name", "other"), ACROSS.items())
def test_an_invented_import_against_a_rule_is_caught(name, other):
    assert upward(name, {other, "numpy", "robot_rl.core.specs"}), f"{name} may import {other}"
    assert not upward(name, {"numpy", "robot_rl.core.specs", "math"})


def test_an_invented_circle_is_caught():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


CAPABILITY_CHECKS = ("robot_rl.core.capabilities", "policies.trainable")
"""Who may look for a capability by its name: whoever says what is wrong with it."""
TAKING_PART = ("robot", "operator", "policy", "judge", "clock", "task", "driver")
"""Whom a capability belongs to."""


def asked_by_name(code: str) -> list[str]:
    """Capabilities that code asks of somebody by their names instead of by a protocol."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    asked = [node for node in calls if ast.unparse(node.func) in ("getattr", "hasattr") and len(node.args) > 1]
    return [
        ast.unparse(node)
        for node in asked
        if ast.unparse(node.args[0]).split(".")[-1].lstrip("_") in TAKING_PART
        and isinstance(node.args[1], ast.Constant)
    ]


def test_nobody_is_asked_for_a_capability_by_its_name():
    """But for the spec, which everybody has: whether something is a robot at all is asked of yaml files."""
    for name, path in FILES.items():
        if name not in CAPABILITY_CHECKS and not within(name, "benchmarks"):
            asked = [each for each in asked_by_name(path.read_text()) if "'spec'" not in each]
            assert not asked, f"{name} asks {asked}: say it by a protocol of robot_rl/core/protocols.py"
    assert asked_by_name("getattr(self._robot, 'picture', None); hasattr(driver, 'judge'); getattr(self, name)") == [
        "getattr(self._robot, 'picture', None)",
        "hasattr(driver, 'judge')",
    ]


def borrowed(code: str) -> list[str]:
    """The private names that code imports from another file of ours."""
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module]
    ours = [node for node in found if str(node.module).split(".")[0] in PACKAGES]
    return [f"{node.module}.{each.name}" for node in ours for each in node.names if each.name.startswith("_")]


def test_no_file_imports_anothers_private_name():
    wrong = {name: borrowed(path.read_text()) for name, path in FILES.items()}
    assert not {name: names for name, names in wrong.items() if names}


def test_an_invented_private_import_is_caught():
    assert borrowed("from robot_rl.core.specs import _is_positive, RobotSpec") == ["robot_rl.core.specs._is_positive"]
    assert borrowed("from robot_rl.core.specs import RobotSpec\nfrom os import _exit") == []


def test_hydra_stays_in_one_room():
    for name, found in IMPORTS.items():
        hydra = {other for other in found if other.split(".")[0] in {"hydra", "omegaconf"}}
        assert not hydra or within(name, "robot_rl.config"), f"{name} imports Hydra"


def test_no_torch_where_a_robot_is_driven_or_recorded():
    for name, found in IMPORTS.items():
        torch = {other for other in found if other.split(".")[0] in {"torch", "diffusers"}}
        assert not torch or not any(within(name, room) for room in NO_TORCH), f"{name} imports torch"


def test_ros_stays_in_one_room():
    for name, found in IMPORTS.items():
        ros = {other for other in found if other.split(".")[0] in {"rclpy", "cyclonedds", "rosidl_runtime_py"}}
        assert not ros or within(name, "hardware.ros") or within(name, "benchmarks"), f"{name} imports {ros}"


@pytest.mark.parametrize("module", DEPLOY_PATH)
def test_the_deploy_path_loads_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_package_marker_is_empty():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            assert not path.read_text().strip(), f"{path} holds code"


def test_launch_is_not_a_python_package():
    """A package called launch would shadow ROS 2's own."""
    assert not (ROOT / "launch" / "__init__.py").exists()
