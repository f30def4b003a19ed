"""The command line finds its rooms, answers at once and shows no traceback for a user's mistake."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from robot_rl import cli


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from robot_rl.cli import main; status = main(['--help']);"
        "heavy = {'torch', 'numpy.random', 'hydra', 'zarr', 'cv2', 'rich'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy - {'numpy.random'} else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS.values())
def test_every_command_is_where_the_table_says(command):
    module, function = command.target.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert cli.main(["colect"]) == 2
    assert "Commands: collect, data, train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "run=nowhere"], "robot-rl train dataset=... run=nowhere"),
        (["eval", "policy=nowhere"], "no policy at nowhere"),
        (["train", "dataset=nowhere", "run=x"], "robot-rl collect dataset=nowhere"),
        (["collect", "dataset=x", "replay=nothing"], "wanted DATASET#EPISODE"),
        (["demo", "size=huge"], "wanted quick or full"),
    ],
)
def test_a_users_mistake_is_one_message_and_status_2(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


INTERRUPTED = """
import os, signal, sys, time
from robot_rl import cli
def command(_):
    os.kill(os.getpid(), signal.{name})
    time.sleep({seconds})
    return 0
signal.signal(signal.SIGHUP, signal.{before})
cli._resolve = lambda target: command
sys.exit(cli.main(["collect"]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_a_kill_and_a_closed_terminal_unwind_so_that_robots_are_stopped(name):
    code = INTERRUPTED.format(name=name, seconds=60, before="SIG_DFL")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "\nrobot-rl collect: stopped\n")


def test_a_closed_terminal_means_nothing_under_nohup():
    code = INTERRUPTED.format(name="SIGHUP", seconds=0, before="SIG_IGN")
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
