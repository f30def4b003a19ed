"""What the container files promise: no `privileged`, nobody is root, nothing that moves an arm restarts itself.

They cannot be built here; that is said in docker/README.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SERVICES = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments of each line, continuations joined, comments dropped."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in path.read_text().splitlines() if line[:1] != "#"))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_an_ordinary_user_from_a_named_base(path):
    lines = instructions(path)
    (base,) = (rest for word, rest in lines if word == "FROM")
    assert ":" in base
    assert not base.endswith(":latest")
    users = [rest for word, rest in lines if word == "USER"]
    assert users[-1:] == ["robot"]
    assert lines.index(("USER", "robot")) > max(index for index, (word, _) in enumerate(lines) if word == "RUN")


def test_the_robots_image_is_jazzy():
    assert instructions(DOCKER / "robot.Dockerfile")[0] == ("FROM", "ros:jazzy")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists_and_what_is_large_stays_out(path):
    for word, rest in instructions(path):
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
    ignored = Path(f"{path}.dockerignore").read_text().split()
    assert {".git", ".venv", "runs", "datasets"} <= set(ignored)


def test_the_robots_packages_are_pinned_and_hold_no_torch():
    text = (DOCKER / "robot.Dockerfile").read_text()
    (packages,) = re.findall(r'ARG PACKAGES="([^"]+)"', text)
    pinned = (ROOT / "requirements.txt").read_text()
    missing = [name for name in packages.split("|") if not re.search(rf"^{name}==", pinned, re.MULTILINE)]
    assert not missing
    assert "torch" not in packages


def test_the_robots_packages_are_enough_for_its_commands():
    """With everything else forbidden, `up` and the nodes can still be imported."""
    forbidden = ["torch", "diffusers", "accelerate", "onnx", "onnxruntime", "zarr", "icechunk", "rerun", "av"]
    forbidden += ["metaworld", "mujoco", "gymnasium", "gym_pusht", "tensorboard"]
    code = f"import sys; sys.modules.update(dict.fromkeys({forbidden!r}))"
    up = ("main", "stop_and_clear", "launch_description")
    code += f"; import robot_rl.cli, {', '.join(f'robot_rl.commands.up.{each}' for each in up)}"
    code += ", hardware.ros.arm_node, hardware.ros.camera_node"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_hosts_network_and_no_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert "privileged" not in service
    assert service["network_mode"] == "host"
    assert service["cap_add"] == ["SYS_NICE"]
    assert service["ulimits"]["rtprio"] > 0
    assert service["group_add"]
    assert not {"security_opt", "pid"} & set(service)
    assert not [volume for volume in service["volumes"] if volume.startswith(("/:", "/dev"))]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_that_can_move_an_arm_restarts_itself_or_is_killed_while_it_ramps_down(name):
    service = SERVICES[name]
    assert service["restart"] == "no"
    assert service["init"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) >= 15


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_built_from_a_file_that_is_there(name):
    build = SERVICES[name]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).is_file()


def test_the_entrypoint_becomes_the_command_so_that_it_gets_the_signals():
    lines = (DOCKER / "robot-entrypoint.sh").read_text().strip().splitlines()
    assert lines[0] == "#!/bin/bash"
    assert lines[-1] == 'exec "$@"'
    assert (DOCKER / "robot-entrypoint.sh").stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(DOCKER / "robot-entrypoint.sh")], check=False).returncode == 0


def test_the_readme_says_what_was_not_built():
    text = (DOCKER / "README.md").read_text()
    assert "Neither image was built" in text
    assert "privileged" in text
