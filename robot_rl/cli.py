"""`robot-rl <command> [arguments]`: finds the command's room and hands over.

Commands are imported only when asked for, so that help and typing mistakes answer at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from robot_rl.core.errors import HelpRequested, RobotRLError


class Command(NamedTuple):
    """Where a command lives and what it is for."""

    target: str
    summary: str


COMMANDS = {
    "collect": Command("robot_rl.commands.collect:collect", "drive the robot and record demonstrations"),
    "data": Command("robot_rl.commands.data.main:main", "list, show, verify, delete, tag, import, export episodes"),
    "train": Command("robot_rl.commands.train.main:main", "train a policy by imitation"),
    "improve": Command(
        "robot_rl.commands.improve.main:main", "improve a policy by gated offline RL and its own rollouts"
    ),
    "finetune": Command(
        "robot_rl.commands.finetune.main:main", "improve a policy on the robot by online RL, with an operator beside it"
    ),
    "distill": Command("robot_rl.commands.distill:main", "make a one-step policy of a trained one"),
    "export": Command("robot_rl.commands.export:main", "write an ONNX bundle of a trained policy"),
    "eval": Command("robot_rl.commands.evaluate:main", "run seeded episodes of a policy and report its success"),
    "deploy": Command("robot_rl.commands.deploy:deploy", "run a policy in real time until stopped"),
    "up": Command("robot_rl.commands.up.main:main", "start a robot's nodes on this computer, stop them cleanly"),
    "stop": Command("robot_rl.commands.up.stop_and_clear:stop", "latch the software stop of a running arm"),
    "clear": Command("robot_rl.commands.up.stop_and_clear:clear", "end a latched stop or fault of a running arm"),
    "calibrate": Command(
        "robot_rl.commands.calibrate.main:main", "measure a robot's latencies and write them into its yaml"
    ),
    "doctor": Command("robot_rl.commands.doctor.main:main", "what this machine has and lacks, with remedies"),
    "demo": Command("robot_rl.commands.demo:main", "all of the above on the simulated arm, with a report"),
}

HELP_FLAGS = {"-h", "--help", "help"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; a user's mistake is one message and status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in HELP_FLAGS:
        sys.stdout.write(_help())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        sys.stderr.write(f"robot-rl: no command '{name}'. Commands: {', '.join(COMMANDS)}\n")
        return 2
    signal.signal(signal.SIGTERM, _terminate)
    # A closed terminal, unless the user has said (nohup) that it means nothing.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _terminate)
    # Waiting OpenMP threads otherwise spin: with another program on the machine, training ran ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return int(_resolve(COMMANDS[name].target)(rest))
    except HelpRequested as request:
        sys.stdout.write(str(request))
        return 0
    except RobotRLError as error:
        sys.stderr.write(f"robot-rl {name}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"\nrobot-rl {name}: stopped\n")
        return 130


def _resolve(target: str):  # type: ignore[no-untyped-def]
    """The function that `module:function` names."""
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


def _terminate(*_: object) -> None:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that robots stop and terminals are restored."""
    raise KeyboardInterrupt


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return (
        "usage: robot-rl <command> [arguments]\n\n"
        + "\n".join(lines)
        + "\n\nrobot-rl <command> --help shows a command's settings.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
