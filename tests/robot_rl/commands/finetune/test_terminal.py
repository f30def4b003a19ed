"""A correction session as a person has it: a real terminal, real keys, real time, and a run that goes on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.operators.terminal.raw_terminal import SHOW_CURSOR
from robot_rl.core.episode import Outcome, Source
from robot_rl.run.checkpoint import newest_checkpoint
from tests.hardware.operators.terminal.test_raw_terminal import become_a_terminals_program
from tests.robot_rl.commands.finetune.finetune_runs import save_start, stored

ROOT = Path(__file__).resolve().parents[4]
TIMEOUT_S = 240.0
"""Storing goes behind everything else, so a busy machine takes its time."""
RIGHT, LEFT, CTRL_C = b"\x1b[C", b"\x1b[D", b"\x03"

SESSION = """
import sys
from pathlib import Path
import torch
from rich.console import Console
from robot_rl import cli
from robot_rl.commands.finetune import main as finetune
from tests.robot_rl.commands.finetune.finetune_runs import settings

torch.set_num_threads(1)
chosen = settings(Path(sys.argv[1]))
chosen.robot["_target_"] = "tests.robot_rl.toy_reach.UnjudgedReachRobot"
keys = [{"dimension": 0, "minus": "a", "plus": "d", "speed": 1.0},
        {"dimension": 1, "minus": "s", "plus": "w", "speed": 1.0}]
chosen.operator = {
    "_target_": "hardware.operators.terminal.keyboard.KeyboardOperator", "_partial_": True, "correcting": False,
    "layouts": {"reach": {"moving": keys}},
}
chosen.recover, chosen.task.max_ticks = "yes", 600
chosen.online.iterations = chosen.online.episodes_per_iteration = 2
finetune.load = lambda *_: chosen
sys.exit(cli.main(["finetune"]))
"""


class Window:
    """A terminal with the session in it."""

    def __init__(self, place: Path) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.output, self.seen = "", 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", SESSION, str(place)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=become_a_terminals_program,
        )

    def drain(self) -> None:
        while select.select([self.master], [], [], 0.05)[0]:
            self.output += os.read(self.master, 65536).decode(errors="replace")

    def sees(self, words: str) -> Window:
        """Waits for words that the screen shows after those seen last."""
        deadline = time.monotonic() + TIMEOUT_S
        while (found := re.compile(words, re.DOTALL).search(self.output, self.seen)) is None:
            assert time.monotonic() < deadline, (words, self.output[self.seen :])
            assert self.process.poll() is None or select.select([self.master], [], [], 0)[0], (words, self.output)
            self.drain()
        self.seen = found.end()
        return self

    def type(self, *keys: bytes) -> Window:
        for key in keys:
            os.write(self.master, key)
            time.sleep(0.25)
        return self

    def ended(self) -> int:
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output
            self.drain()
        self.drain()
        return self.process.returncode

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before and SHOW_CURSOR in self.output[-3000:]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def window():
    opened = []

    def opening(place):
        opened.append(Window(place))
        return opened[-1]

    yield opening
    for each in opened:
        each.close()


@pytest.mark.slow
def test_a_person_corrects_pauses_labels_stops_and_goes_on_where_the_session_ended(window, tmp_path):
    save_start(tmp_path)
    run = tmp_path / "run"

    screen = window(tmp_path).sees("the policy drives, Tab takes over").sees("0/2 done")
    screen.type(b"\t").sees("you drive, Tab gives back").type(b"d", b"d", b"\t").sees("the policy drives")
    screen.type(b" ").sees("PAUSED").type(b" ").sees("the policy drives")
    screen.type(LEFT).sees("thrown away; again").sees("the policy drives")
    screen.type(b"\t").sees("you drive").type(b"d", b"d", b"Y").sees("episode 1: success")
    screen.sees("1/2 done: 0 unaided, 1 helped").sees("tick [2-9]").type(RIGHT).sees(
        "has no label, so it does not count"
    )
    screen.sees("tick [2-9]").type(b"X").sees(r"failure \(operator").sees("learning; the robot waits")
    screen.sees("iteration 1/2: 0 of 2 succeeded without help").sees("0/2 done.*update 1")
    screen.sees("tick [2-9]").type(b"Y").sees("1/2 done: 1 unaided.*tick [2-9]").type(b"q").sees(
        "the same command goes on with them"
    )
    assert screen.ended() == 130
    assert screen.is_restored()
    assert newest_checkpoint(run).name == "00000001"
    outcomes = [each.result.outcome for each in stored(run)]
    assert outcomes == [Outcome.SUCCESS, Outcome.ABORTED, Outcome.FAILURE, Outcome.SUCCESS, Outcome.ABORTED]
    assert np.any(stored(run)[0].source == Source.OPERATOR)

    screen = window(tmp_path).sees("goes on with 1 of 2 episodes").sees("1/2 done: 1 unaided, 0 helped; update 1")
    screen.sees("tick [2-9]").type(CTRL_C).sees("the same command goes on")
    assert screen.ended() == 130
    assert screen.is_restored()

    screen = window(tmp_path).sees("goes on with 1 of 2 episodes").sees("tick [2-9]").type(b"Y").sees("iteration 2/2")
    assert screen.ended() == 0
    assert screen.is_restored()
    assert newest_checkpoint(run).name == "00000002"
    assert len({each.header.seed for each in stored(run)}) == len(stored(run)) == 7
