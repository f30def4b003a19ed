"""`robot-rl up`, `stop` and `clear` as a user types them, with real nodes on a real wire."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
DEADLINE_S = 30.0
ROBOT_RL = (sys.executable, "-m", "robot_rl.cli")
ROOT = Path(__file__).resolve().parents[3]


def obey_ctrl_c() -> None:
    """A test-suite that a script started in the background ignores SIGINT, and its children would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Up:
    """A running `robot-rl up`, read line by line."""

    def __init__(self, place: Path, environment: dict[str, str]) -> None:
        self.place = place
        self.environment = {**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*ROBOT_RL, "up", "robot=ros/sim_joint"],
            cwd=place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=obey_ctrl_c,
        )
        assert self.process.stdout is not None
        self._pipe = self.process.stdout
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._pipe, selectors.EVENT_READ)
        self._rest = b""

    def wait_for(self, text: str, times: int = 1) -> None:
        until_s = time.monotonic() + DEADLINE_S
        while sum(text in line for line in self.lines) < times:
            assert time.monotonic() < until_s, f"never heard {text!r} in {self.lines}"
            if self._ready.select(0.2):
                chunk = os.read(self._pipe.fileno(), 65536)
                assert chunk, f"it ended without {text!r}: {self.lines}"
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self.lines += [line.decode() for line in lines]

    def finish(self) -> int:
        output, _ = self.process.communicate(timeout=DEADLINE_S)
        self.lines += (self._rest + output).decode().splitlines()
        return self.process.returncode

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ROBOT_RL, *arguments], cwd=self.place, env=self.environment, capture_output=True, text=True, check=False
        )

    def node(self, name: str) -> int:
        """Process id of one of its nodes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (found,) = (pid for pid in children if f"hardware.ros.{name}" in Path(f"/proc/{pid}/cmdline").read_text())
        return int(found)

    def index(self, text: str) -> int:
        return next(number for number, line in enumerate(self.lines) if text in line)


@pytest.fixture
def up(tmp_path, ros_domain):
    running = Up(tmp_path, ros_domain)
    try:
        running.wait_for("up; Ctrl-C stops all")
        running.wait_for("camera front at")
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            running.finish()


def test_a_person_stops_and_clears_the_arm_nobody_takes_its_name_and_ctrl_c_ends_it_motion_first(up):
    assert up.index("no password") < up.index("up; Ctrl-C stops all")
    stopped = up.command("stop", "robot=ros/sim_joint")
    assert stopped.returncode == 0, stopped.stderr
    up.wait_for("arm is stopped")
    cleared = up.command("clear", "namespace=/sim_joint")
    assert cleared.returncode == 0, cleared.stderr
    up.wait_for("arm is inactive: cleared")
    second = up.command("up", "robot=ros/sim_joint")
    assert second.returncode == 2
    assert "an arm node already runs at /sim_joint" in second.stderr
    up.process.send_signal(signal.SIGINT)
    assert up.finish() == 0
    assert up.index("[arm] ended with status 0") < up.index("[camera front] ended with status 0")


def test_a_killed_camera_comes_back_and_a_killed_arm_node_ends_everything(up):
    os.kill(up.node("camera_node"), signal.SIGKILL)
    up.wait_for("[camera front] was ended by SIGKILL; restarting")
    up.wait_for("camera front at", times=2)
    os.kill(up.node("arm_node"), signal.SIGKILL)
    assert up.finish() == 2
    assert up.index("[camera front] ended with status 0") < up.index("look at the arm")


def test_a_stop_that_nobody_hears_says_so(tmp_path, ros_domain):
    done = subprocess.run(
        [*ROBOT_RL, "stop", "namespace=/nobody"],
        cwd=tmp_path,
        env={**ros_domain, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no arm node answers at /nobody" in done.stderr
    assert "EMERGENCY STOP" in done.stderr
