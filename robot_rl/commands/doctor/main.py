"""`robot-rl doctor`: what this machine has and lacks, each with its remedy.

Exit status 0 if the simulated path can run, 1 if something that it requires is missing.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hardware.operators.devices import evdev, gamepad, spacemouse
from hardware.sim.gl import GL_REMEDY
from robot_rl.commands.doctor import machine, ros, software
from robot_rl.commands.doctor.findings import Check, Finding, ProbeFailed, ProbeRefused, Status, run_probe, write_answer
from robot_rl.config.search import options, search_directories
from robot_rl.core.clock import HostClock
from robot_rl.core.errors import HelpRequested, RobotRLError
from robot_rl.core.protocols import stands_still
from robot_rl.core.version import SOURCE_ROOT

SIMULATED_ROBOTS = ("metaworld", "pusht")
ROBOT_TIMEOUT_S = 120.0
RENDER_TIMEOUT_S = 120.0
RENDERED_FRAMES = 5
CONFIGS = SOURCE_ROOT / "configs"
STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.MISSING: "yellow"}
USAGE = """usage: robot-rl doctor [setting=value ...] [--json]

settings and defaults:
  robot: {robot}   # robots of configs/robot/ to put through the contract check, comma-separated
  directory: {directory}      # where datasets go: its disk is measured
  seconds: {seconds}             # how long to watch the clock
  move: {move}                 # yes: drive robots that are no simulation, with random actions, person at the stop
"""


@dataclass(frozen=True)
class DoctorSettings:
    """What to look at.

    Attributes:
        robot: Names in `configs/robot/`, comma-separated; each goes through the contract check.
        directory: Where datasets go.
        seconds: How long to watch the clock [s].
        move: `yes` lets robots that are no simulation be driven by the contract check.
    """

    robot: str = ",".join(SIMULATED_ROBOTS)
    directory: str = "datasets"
    seconds: float = 2.0
    move: str = "no"


def main(argv: Sequence[str]) -> int:
    """Runs every check, showing each finding as it comes; `--json` writes them as one document instead."""
    arguments = list(argv)
    if arguments[:1] == ["--probe"]:
        return write_answer(lambda: PROBES[arguments[1]](*arguments[2:]))
    as_json = "--json" in arguments
    settings = parse([argument for argument in arguments if argument != "--json"])
    found = (check.run() for check in checks(settings))
    if as_json:
        findings = list(found)
        sys.stdout.write(json.dumps(document(findings), indent=2) + "\n")
    else:
        findings = show(found, Console())
    return 1 if any(finding.is_blocking for finding in findings) else 0


def parse(arguments: Sequence[str]) -> DoctorSettings:
    """Settings from `name=value` arguments. Hydra may be what is missing, so this does without.

    Raises:
        RobotRLError: An unknown name lists the valid ones.
        HelpRequested: `--help` was asked for.
    """
    if {"-h", "--help"} & set(arguments):
        raise HelpRequested(USAGE.format_map(vars(DoctorSettings())))
    valid = [field.name for field in fields(DoctorSettings)]
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in valid:
            raise RobotRLError(
                f"unknown setting '{argument}'. Valid: {', '.join(f'{each}=...' for each in valid)}, --json"
            )
        values[name] = value
    for name in filter(None, values.get("robot", "").split(",")):
        _require_robot(name)
    if "seconds" in values:
        values["seconds"] = _positive(values["seconds"])
    if values.get("move", "no") not in {"yes", "no"}:
        raise RobotRLError(f"move is '{values['move']}', wanted yes or no")
    return DoctorSettings(**values)


def _require_robot(name: str) -> None:
    places = search_directories(CONFIGS)
    if name not in (known := options("robot", places)):
        raise RobotRLError(f"no robot '{name}'; configs/robot/ holds {', '.join(known) or 'none'}")


def _positive(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 3600.0:
        raise RobotRLError(f"seconds is '{text}', wanted a positive number below 3600")
    return seconds


def checks(settings: DoctorSettings) -> list[Check]:
    """Every check in the order of the report; timing comes first, while nothing else runs."""
    torch_facts = functools.cache(
        lambda: run_probe("robot_rl.commands.doctor.probes", ["torch"], software.TORCH_TIMEOUT_S)
    )
    seconds = f"{settings.seconds:g}"
    timing_facts = functools.partial(
        run_probe, "robot_rl.commands.doctor.probes", ["timing", seconds], settings.seconds + 30
    )
    # Asked now: while findings are shown, standard output is the spinner's.
    terminal = (sys.stdin.isatty() and sys.stdout.isatty(), shutil.get_terminal_size(), sys.stdout.encoding or "ascii")
    robots = [name for name in settings.robot.split(",") if name]
    return [
        Check("timing", lambda: machine.timing(timing_facts)),
        Check("real-time scheduling", machine.realtime),
        Check("processor", machine.processor),
        Check("memory", machine.memory),
        Check("disk", lambda: machine.disk(Path(settings.directory)), required=True),
        Check("Python", software.python, required=True),
        Check("packages", software.packages, required=True),
        Check("tested versions", lambda: software.packages(only_needed=False)),
        Check("torch", lambda: software.torch(torch_facts), required=True),
        Check("GPU", lambda: software.gpu(torch_facts)),
        Check("onnxruntime", software.onnxruntime, required=True),
        *(Check(f"robot {name}", functools.partial(robot, name, settings.move), required=True) for name in robots),
        Check("Meta-World cameras", rendering),
        Check("video", software.video),
        Check("cameras", machine.cameras),
        Check("input devices", lambda: machine.input_devices(input_devices())),
        Check("terminal", lambda: machine.terminal(os.environ, *terminal)),
        Check("ROS 2", ros.client),
        Check("ROS middleware", ros.middleware),
        Check("ROS network", ros.network),
    ]


def input_devices(root: Path = Path("/")) -> list[machine.InputDevice]:
    """Gamepads and SpaceMice that are plugged in.

    Args:
        root: File system to read.
    """
    pads = [node for node in evdev.input_nodes(root) if node.is_gamepad]
    pucks = [node for node in spacemouse.hid_nodes(root) if node.is_spacemouse]
    device = machine.InputDevice
    return [
        *(device("gamepad", each.name, each.path, each.is_readable, gamepad.PERMISSION_REMEDY) for each in pads),
        *(device("SpaceMouse", each.name, each.path, each.is_readable, spacemouse.PERMISSION_REMEDY) for each in pucks),
    ]


def robot(name: str, move: str = "no") -> Finding:
    """Whether a robot keeps the contract that everything else relies on.

    Args:
        name: In `configs/robot/`.
        move: `yes` lets a robot that is no simulation be driven with random actions.
    """
    try:
        answer = run_probe("robot_rl.commands.doctor.main", ["--probe", "robot", name, move], ROBOT_TIMEOUT_S)
    except ProbeRefused as error:
        return Finding(f"robot {name}", Status.MISSING, str(error))
    except ProbeFailed as error:
        return Finding(f"robot {name}", Status.MISSING, str(error), "make env, or: pip install -r requirements.txt")
    violations = answer["violations"]
    if violations:
        detail = f"breaks the contract: {'; '.join(violations)}"
        return Finding(f"robot {name}", Status.MISSING, detail, "see hardware/contract.py for what a robot must do")
    if not answer["driven"]:
        detail = "its limits are complete; not driven, since it is no simulation of ours"
        remedy = f"with a person at the stop and room to move: robot-rl doctor robot={name} move=yes"
        return Finding(f"robot {name}", Status.WARN, detail, remedy)
    detail = f"keeps the contract, limits complete; checked in {answer['seconds']:.1f} s"
    return Finding(f"robot {name}", Status.OK, detail)


def rendering() -> Finding:
    """Whether Meta-World's cameras can draw; a broken GL library may kill the process that tries."""
    try:
        answer = run_probe("robot_rl.commands.doctor.main", ["--probe", "rendering"], RENDER_TIMEOUT_S)
    except ProbeFailed as error:
        reason = "no OpenGL that works" if isinstance(error, ProbeRefused) else str(error)
        detail = f"cannot draw: {reason}; everything else works without"
        return Finding("Meta-World cameras", Status.MISSING, detail, GL_REMEDY)
    detail = f"drawn with {answer['backend']}, {answer['milliseconds']:.0f} ms per 84x84 image"
    return Finding("Meta-World cameras", Status.OK, detail)


def _probe_robot(name: str, move: str) -> dict[str, Any]:
    """Runs in a process of its own: the contract check on a robot of `configs/robot/`, and a look at its limits.

    The check drives the robot with random actions, some far outside its bounds: harmless in a simulation, and on an
    arm only when the user says so.
    """
    from hardware.contract import check_robot
    from robot_rl.sessions.setup import build_filter, build_robot, load_robot

    settings = load_robot(name)
    # Anybody may declare that time stands still; only our own simulations are believed without a person.
    is_ours = str(settings.robot.get("_target_", "")).startswith("hardware.sim.")
    start_s = time.monotonic()
    robot = build_robot(settings.robot)
    build_filter(robot.spec, settings.limits)
    is_driven = is_ours or move == "yes"
    violations = []
    if is_driven:
        still = stands_still(robot)
        clock = None if still else HostClock()
        violations = check_robot(lambda: build_robot(settings.robot), clock=clock, repeatable=is_ours and still)
    return {"violations": violations, "driven": is_driven, "seconds": time.monotonic() - start_s}


def _probe_rendering() -> dict[str, Any]:
    """Runs in a process of its own: draws with Meta-World's corner camera."""
    from hardware.sim.gl import require_gl
    from hardware.sim.metaworld import MetaWorldRobot

    backend = require_gl()
    with MetaWorldRobot(cameras=("corner",), image_size=(84, 84)) as robot:
        robot.reset(0)
        robot.observe(0)
        start_s = time.monotonic()
        for _ in range(RENDERED_FRAMES):
            robot.apply(robot.spec.hold(robot.spec.action.bounds()[0]))
            robot.observe(0)
        seconds = (time.monotonic() - start_s) / RENDERED_FRAMES
    return {"backend": backend, "milliseconds": seconds * 1e3}


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "robot": _probe_robot,
    "rendering": _probe_rendering,
    "ros": ros.ask_client,
}


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The report for programs."""
    return {
        "ready": not any(finding.is_blocking for finding in findings),
        "findings": [finding.to_json() for finding in findings],
    }


def show(findings: Iterable[Finding], console: Console) -> list[Finding]:
    """Writes each finding as it comes, then the verdict, and returns them all."""
    shown = []
    for finding in _with_spinner(findings, console):
        console.print(_line(finding))
        shown.append(finding)
    blocking = [finding.name for finding in shown if finding.is_blocking]
    if blocking:
        console.print(f"\n[bold red]Not ready[/] for the simulated path; missing: {', '.join(blocking)}.")
        return shown
    rest = sum(finding.status is not Status.OK for finding in shown)
    note = f" {rest} optional lines above could be better." if rest else ""
    console.print(f"\n[bold green]Ready[/] for the simulated path.{note}")
    return shown


def _with_spinner(findings: Iterable[Finding], console: Console) -> Iterator[Finding]:
    """The findings, with a sign of life on a terminal while the next one is looked for."""
    iterator = iter(findings)
    while True:
        with console.status("looking at the machine"):
            finding = next(iterator, None)
        if finding is None:
            return
        yield finding


def _line(finding: Finding) -> Table:
    """One finding as columns: status, name, detail with the remedy below it."""
    style = "bold red" if finding.is_blocking else STYLES[finding.status]
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=7)
    line.add_column(width=20)
    line.add_column(ratio=1, overflow="fold")
    text = Text(finding.detail)
    if finding.remedy and finding.status is not Status.OK:
        text.append(f"\n-> {finding.remedy}", style="cyan")
    line.add_row(Text(finding.status, style=style), finding.name, text)
    return line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
