"""The recipes of `docs/development.md`, run literally, in a directory and from a package outside the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "development.md").read_text()
FILE = re.compile(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
COMMAND = f"""#!{sys.executable}
import os, sys
sys.path[:0] = [os.getcwd(), {str(ROOT)!r}]
from robot_rl.cli import main
sys.exit(main())
"""
"""`robot-rl` of this tree, wherever another is installed."""


class Place:
    """A newcomer's directory with what the recipes write into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, text in FILE.findall(TEXT):
            self.write(name, text)
        self.write("bin/robot-rl", COMMAND)
        (directory / "bin/robot-rl").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        paths = {"PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{self.directory}:{ROOT}"}
        unset = ("ROBOT_RL_CONFIGS", "ROBOT_RL_POLICY_PACKAGES")
        environment = {key: value for key, value in os.environ.items() if key not in unset} | paths
        return subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=self.directory, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def run(self, script: str) -> str:
        done = self.shell(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, script: str) -> str:
        done = self.shell(script)
        assert done.returncode == 2, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("newcomer"))


def section(title: str) -> str:
    """The shell commands of one recipe."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found, f"docs/development.md has no section '{title}'"
    return "\n".join(COMMANDS.findall(found[1]))


@pytest.mark.slow
def test_add_a_robot(place):
    said = place.run(section("Add a robot"))
    assert "robot reach" in said


@pytest.mark.slow
def test_add_a_task_with_a_judge_of_its_own(place):
    place.run(section("Add a task"))
    listed = place.run("robot-rl data ls datasets/near")
    assert "success" in listed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_add_a_policy_that_trains_improves_exports_and_runs(place):
    if not (place.directory / "datasets/near").exists():
        place.run(section("Add a task"))
    place.run(section("Add a policy"))
    document = json.loads((place.directory / "runs/better/eval/eval.json").read_text())
    assert document["episodes"] == 2
    assert json.loads((place.directory / "runs/better/checkpoints/last/policy.json").read_text())["class"] == (
        "my_lab.policy.NoisyPolicy"
    )
    # Where the package is not allowed, the checkpoint alone is not enough; the bundle holds no code.
    assert "ROBOT_RL_POLICY_PACKAGES=my_lab" in place.refused("robot-rl export run=runs/better output=elsewhere")
    place.run("robot-rl eval policy=runs/better/bundle robot=reach task=near episodes=1 output=again")


@pytest.mark.slow
def test_a_judge_that_is_none_is_refused_before_anything_moves(place):
    place.write("my_lab/no_judge.py", "class Silent:\n    def __init__(self, robot): pass\n")
    place.write("configs/task/silent.yaml", "name: x\nmax_ticks: 4\njudge: {_target_: my_lab.no_judge.Silent}\n")
    said = place.refused("robot-rl collect dataset=datasets/none robot=reach task=silent operator=guide episodes=1")
    assert "task.judge: my_lab.no_judge.Silent has no method judge()" in said
    assert not (place.directory / "datasets/none").exists()
