"""The house rules that a reader relies on, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("robot_rl", "hardware", "policies", "data")
COMMAND_LAYER = {
    "robot_rl.cli",
    "robot_rl.settings",
    "robot_rl.train",
    "robot_rl.training_plan",
    "robot_rl.distill",
    "robot_rl.stage_run",
    "robot_rl.improve",
    "robot_rl.improve_round",
    "robot_rl.improve_steps",
    "robot_rl.improve_report",
    "robot_rl.improve_settings",
    "robot_rl.operate",
    "robot_rl.evaluate",
    "robot_rl.session",
    "robot_rl.process_episodes",
    "robot_rl.collector",
    "robot_rl.live_collector",
    "robot_rl.live_rollouts",
    "robot_rl.finetune",
    "robot_rl.finetune_batches",
    "robot_rl.finetune_loop",
    "robot_rl.finetune_report",
    "robot_rl.finetune_settings",
    "robot_rl.demo",
    "robot_rl.doctor",
    "robot_rl.up",
    "robot_rl.robot_check",
    "robot_rl.arm_commands",
    "robot_rl.launch_description",
    "robot_rl.ros_checks",
    "robot_rl.export_command",
    "robot_rl.dataset_commands",
    "robot_rl.dataset_show",
    "robot_rl.dataset_import",
    "robot_rl.bag_layout",
    "robot_rl.calibrate",
    "robot_rl.latency_trial",
    "robot_rl.clock_page",
}
DEPLOY_PATH = ("robot_rl.operate", "robot_rl.rollout", "policies.onnx_policy", "hardware.safety", "data.episode_writer")


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(name: str) -> str:
    return name.split(".")[0]


ALL = dict(modules())
IMPORTS = {name: imports(path) for name, path in ALL.items()}


def test_types_imports_nothing_of_ours_and_nothing_heavy():
    assert {top(name) for name in IMPORTS["robot_rl.types"]} <= {*sys.stdlib_module_names, "numpy", "__future__"}


def in_room(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def beyond_the_core(name: str, found: set[str]) -> set[str]:
    """What a module of `robot_rl.core` imports though it may not."""
    plain = {*sys.stdlib_module_names, "numpy", "__future__"}
    ours = {"robot_rl.types", "robot_rl.core"}
    return {
        other
        for other in found
        if top(other) not in plain and other != "robot_rl" and not any(in_room(other, room) for room in ours)
    }


def strangers(name: str, found: set[str]) -> set[str]:
    """What a module of hardware, policies or data imports though it may not."""
    allowed = (top(name), "robot_rl.types", "robot_rl.core")
    return {
        other
        for other in found
        if top(other) in PACKAGES and other != "robot_rl" and not any(in_room(other, room) for room in allowed)
    }


def test_the_core_imports_only_numpy_the_standard_library_and_the_types():
    for name, found in IMPORTS.items():
        if in_room(name, "robot_rl.core"):
            assert not beyond_the_core(name, found), f"{name} imports {beyond_the_core(name, found)}"


@pytest.mark.parametrize("package", ["hardware", "policies", "data"])
def test_the_middle_packages_import_only_themselves_the_core_and_types(package):
    for name, found in IMPORTS.items():
        if top(name) == package:
            assert not strangers(name, found), f"{name} imports {strangers(name, found)}"


def test_the_rules_notice_an_invented_import():
    assert strangers("data.invented", {"robot_rl.core.plausibility", "robot_rl.core.episode.Episode", "numpy"}) == set()
    assert strangers("data.invented", {"hardware.sync", "robot_rl.train", "robot_rl.typesetting"}) == {
        "hardware.sync",
        "robot_rl.train",
        "robot_rl.typesetting",
    }
    assert beyond_the_core("robot_rl.core.invented", {"math", "numpy.typing", "robot_rl.types"}) == set()
    assert beyond_the_core("robot_rl.core.invented", {"cv2", "robot_rl.clock", "data.store"}) == {
        "cv2",
        "robot_rl.clock",
        "data.store",
    }


def test_algorithms_do_not_import_hardware_or_commands():
    for name, found in IMPORTS.items():
        if top(name) == "robot_rl" and name not in COMMAND_LAYER:
            wrong = {other for other in found if top(other) == "hardware" or other in COMMAND_LAYER}
            assert not wrong, f"{name} imports {wrong}"


def test_hydra_stays_in_the_command_layer():
    for name, found in IMPORTS.items():
        if name != "robot_rl.settings":
            assert not {o for o in found if top(o) in {"hydra", "omegaconf"}}, f"{name} imports Hydra"


def test_no_torch_in_hardware_or_data():
    for name, found in IMPORTS.items():
        if top(name) in {"hardware", "data"}:
            assert not {o for o in found if top(o) in {"torch", "diffusers"}}, f"{name} imports torch"


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
