"""What can move an arm is stopped first and never restarted; cameras come back; nothing outlives its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from robot_rl.commands.up.supervisor import MotionNodeDied, NodeCommand, Patience, Supervisor

DEADLINE_S = 20.0
HASTY = Patience(stop_s=DEADLINE_S, restart_s=0.01, longest_restart_s=0.02)

POLITE = """
import signal, sys, time
def end(*_):
    print("ramped down"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready")
while True:
    signal.pause()
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready")
while True:
    signal.pause()
"""
DYING = "print('no joint states'); import sys; sys.exit(3)"
CRASHES_TWICE = """
import pathlib, signal, sys
count = pathlib.Path(sys.argv[1])
runs = int(count.read_text()) if count.exists() else 0
count.write_text(str(runs + 1))
print(f"run {runs + 1}")
if runs < 2:
    sys.exit("the camera went away")
signal.pause()
"""


def node(name: str, code: str, *arguments: object, can_move: bool = False) -> NodeCommand:
    argv = (sys.executable, "-c", textwrap.dedent(code), *map(str, arguments))
    return NodeCommand(name, argv, can_move)


class Bench:
    """A supervisor of fake nodes, and what was said."""

    def __init__(self, *nodes: NodeCommand, patience: Patience = HASTY) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(nodes, self.lines.append, patience)

    def attend_until(self, line: str) -> None:
        until_s = time.monotonic() + DEADLINE_S
        while not any(line in each for each in self.lines):
            assert time.monotonic() < until_s, f"never heard {line!r} in {self.lines}"
            self.supervisor.attend(0.02)

    def index(self, line: str) -> int:
        return next(number for number, each in enumerate(self.lines) if line in each)


@pytest.fixture
def bench():
    made: list[Bench] = []

    def make(*nodes: NodeCommand, patience: Patience = HASTY) -> Bench:
        made.append(Bench(*nodes, patience=patience))
        made[-1].supervisor.start()
        return made[-1]

    yield make
    for each in made:
        each.supervisor.stop()


def test_each_line_of_output_says_whose_it_is(bench):
    both = bench(node("arm", POLITE, can_move=True), node("camera wrist", POLITE))
    both.attend_until("[arm] ready")
    both.attend_until("[camera wrist] ready")


def test_motion_is_stopped_before_the_cameras(bench):
    both = bench(node("camera wrist", POLITE), node("arm", POLITE, can_move=True))
    both.attend_until("[arm] ready")
    both.attend_until("[camera wrist] ready")
    both.supervisor.stop()
    assert both.index("[arm] ended with status 0") < both.index("[camera wrist] ramped down")


def test_a_node_that_can_move_an_arm_is_not_restarted_and_a_person_is_told_what_to_do(bench):
    one = bench(node("arm", DYING, can_move=True))
    with pytest.raises(MotionNodeDied, match=r"arm ended with status 3.*not restarted: look at the arm"):
        one.attend_until("never said")
    assert one.lines == ["[arm] no joint states"]


def test_a_killed_arm_node_is_named_with_its_signal(bench):
    one = bench(node("arm", "print('ready'); import os; os.kill(os.getpid(), 9)", can_move=True))
    with pytest.raises(MotionNodeDied, match="was ended by SIGKILL"):
        one.attend_until("never said")


def test_a_camera_that_crashes_twice_comes_back_twice(bench, tmp_path):
    one = bench(node("camera wrist", CRASHES_TWICE, tmp_path / "count"))
    one.attend_until("run 3")
    assert sum("restarting" in line for line in one.lines) == 2
    assert any("the camera went away" in line for line in one.lines)


def test_the_wait_before_a_restart_doubles_up_to_its_limit(bench):
    patience = Patience(stop_s=DEADLINE_S, restart_s=0.01, longest_restart_s=0.03)
    one = bench(node("camera wrist", DYING), patience=patience)
    until_s = time.monotonic() + DEADLINE_S
    while len(waits := [line.rpartition(" in ")[2] for line in one.lines if "restarting" in line]) < 4:
        assert time.monotonic() < until_s
        one.supervisor.attend(0.02)
    assert waits == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]


def test_a_node_that_ignores_sigterm_is_killed_and_for_an_arm_that_is_a_warning(bench):
    one = bench(node("arm", DEAF, can_move=True), patience=Patience(stop_s=0.1))
    one.attend_until("ready")
    one.supervisor.stop()
    assert any("did not stop within 0.1 s and is killed" in line for line in one.lines)
    assert any("look at the arm" in line for line in one.lines)
    assert one.lines[-1] == "[arm] was ended by SIGKILL"


def test_half_a_line_at_the_end_is_not_lost(bench):
    one = bench(node("camera wrist", "import sys; sys.stdout.write('half a li')"))
    one.attend_until("[camera wrist] half a li")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_nodes_are_told_to_stop_when_their_supervisor_is_killed(tmp_path):
    marker = tmp_path / "stopped"
    arm = f"""
import os, pathlib, signal, sys
def end(*_):
    pathlib.Path({str(marker)!r}).touch(); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("pid", os.getpid())
while True:
    signal.pause()
"""
    program = f"""
import sys
from robot_rl.commands.up.supervisor import NodeCommand, Supervisor
arm = NodeCommand("arm", (sys.executable, "-c", {arm!r}), True)
supervisor = Supervisor([arm], lambda line: print(line, flush=True))
supervisor.start()
while True:
    supervisor.attend()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[-1])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until_s = time.monotonic() + DEADLINE_S
    while not marker.exists() or is_alive(pid):
        assert time.monotonic() < until_s, "the node outlived its supervisor"
        time.sleep(0.02)
