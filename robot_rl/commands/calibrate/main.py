"""`robot-rl calibrate latency`: measures how late a robot's cameras and commands are, and writes it into its yaml.

Cameras look at a clock that shows its time in a readable pattern (a generated camera shows its own). The arm makes a
small wiggle of one action dimension inside the command filter's limits, and what is measured is laid over what was
commanded. Nothing moves before a person has said so.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from hardware.cameras.filmed_clock import shown_time
from hardware.latency import CommandLatency, NoLatency, camera_latency, command_latency, wiggle
from hardware.safety.command_filter import FilteredCommands
from hardware.safety.dimensions import dimension_index
from hardware.safety.limits import CommandLimits
from robot_rl.commands.calibrate.clock_page import ClockPage
from robot_rl.commands.calibrate.latency_trial import Seen, Wiggle, movable, plan_wiggle, run_wiggle, watch_pictures
from robot_rl.commands.calibrate.yaml_values import with_value
from robot_rl.config.search import find_option, search_directories
from robot_rl.config.settings import load
from robot_rl.core.clock import HostClock
from robot_rl.core.episode import Observation
from robot_rl.core.errors import HelpRequested, RobotRLError
from robot_rl.core.files import write_whole
from robot_rl.core.protocols import Clock, Robot, stands_still
from robot_rl.core.specs import NS_PER_S
from robot_rl.sessions.setup import RobotFile, build_robot

REST_S = 0.8
"""Before and after a wiggle, longer than any latency that is looked for."""
GLANCE_S = 2.0
"""How long cameras are looked at to see whether they show the time already."""
WHAT = ("all", "command", "cameras")
USAGE = "robot-rl calibrate latency robot=ros/my_arm"


class CalibrationRefused(RobotRLError):
    """Something that a person has to say or do first."""


@dataclass
class CalibrateSettings(RobotFile):
    """Settings of `robot-rl calibrate latency`, beside the robot's own.

    Attributes:
        what: `all`, `command` or `cameras`.
        confirm: Yes to every question, where nobody can be asked: the arm may move, and the file may be written.
        write: Write what was measured into the robot's yaml.
        dimension: Action dimension to wiggle; None is the first whose position is measured.
        amplitude: Of the wiggle, in the dimension's unit; None is small, and the limits make it smaller.
        duration_s: Of one wiggle [s].
        slowest_hz: Frequency at which a wiggle begins.
        fastest_hz: Frequency at which it ends.
        repeats: Wiggles; their median counts.
        pictures: Pictures of each camera in which the time must be read.
        camera_s: Longest time to look at the cameras [s].
        screen_s: How old the on-screen clock's time is while it can be seen [s]: a frame until it is shown and half a
            frame on average while it is, at 60 Hz. What the screen itself adds comes on top: look it up.
        port: Of the on-screen clock's page.
    """

    what: str = "all"
    confirm: bool = False
    write: bool = True
    dimension: str | None = None
    amplitude: float | None = None
    duration_s: float = 6.0
    slowest_hz: float = 0.4
    fastest_hz: float = 1.2
    repeats: int = 3
    pictures: int = 60
    camera_s: float = 20.0
    screen_s: float = 0.025
    port: int = 8765

    def __post_init__(self) -> None:
        """Rejects what cannot be measured with."""
        if self.what not in WHAT:
            raise CalibrationRefused(f"what={self.what}: wanted {', '.join(WHAT)}")
        for name in ("duration_s", "slowest_hz", "fastest_hz", "repeats", "pictures", "camera_s"):
            if not getattr(self, name) > 0:
                raise CalibrationRefused(f"{name} is {getattr(self, name)}, wanted a number above 0")


class Measured(NamedTuple):
    """A latency, where it belongs in the yaml, what stands there, and how sure it is. Seconds."""

    keys: tuple[str, ...]
    old_s: float | None
    new_s: float
    detail: str


@dataclass
class Person:
    """Whoever sits at the terminal, if anybody does.

    Attributes:
        console: To talk to.
        confirmed: The user has said yes to everything beforehand.
        reply: Reads a line; None if nobody is there.
    """

    console: Console
    confirmed: bool
    reply: Callable[[str], str] | None

    def require(self, question: str) -> None:
        """Goes on only if the person says yes.

        Raises:
            CalibrationRefused: No, or nobody is there.
        """
        if self.confirmed:
            self.console.print(f"{question} yes (confirm=yes)", soft_wrap=True, highlight=False)
            return
        if self.reply is None:
            raise CalibrationRefused(f"{question} Nobody is here to ask: add confirm=yes")
        if self.reply(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
            raise CalibrationRefused("nothing was changed")


def main(arguments: Sequence[str]) -> int:
    """Runs `robot-rl calibrate latency`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        raise HelpRequested(f"usage: {USAGE}\n\n{USAGE} --help shows the settings.\n")
    if arguments[0] != "latency":
        raise CalibrationRefused(f"'{arguments[0]}' cannot be calibrated; wanted {USAGE}")
    overrides = arguments[1:]
    settings = load(CalibrateSettings, "calibrate", overrides)
    path = robot_file(overrides)
    console = Console()
    reply = console.input if sys.stdin.isatty() else None
    person = Person(console, settings.confirm, reply)
    found, failed = measure(settings, person, _stamping_clock())
    for problem in failed:
        console.print(f"not measured: {problem}", highlight=False, soft_wrap=True)
    if found:
        conclude(found, settings, path, person)
    return 1 if failed or not found else 0


def _stamping_clock() -> Clock:
    """The clock that stamps are on, as it is now: set meanwhile, it must not change how long a command took."""
    ahead_ns = time.time_ns() - time.monotonic_ns()
    return HostClock(lambda: time.monotonic_ns() + ahead_ns)


def robot_file(overrides: Sequence[str]) -> Path:
    """The yaml file of the robot that the user names, which must be named: it is changed.

    Raises:
        RobotRLError: None is named, or there is no such file.
    """
    names = [each.partition("=")[2] for each in overrides if each.startswith("robot=")]
    if not names:
        raise CalibrationRefused(f"which robot? {USAGE}")
    return find_option("robot", names[-1], search_directories()).resolve()


def measure(settings: CalibrateSettings, person: Person, clock: Clock) -> tuple[list[Measured], list[str]]:
    """Measures what the settings ask for.

    Returns:
        What was found, and in words what could not be.

    Raises:
        RobotRLError: The robot cannot be connected or moved, or the person said no.
    """
    found: list[Measured] = []
    failed: list[str] = []
    robot = build_robot(_with_plain_stamps(settings.robot))
    limits = CommandLimits.for_spec(robot.spec, settings.limits)
    if stands_still(robot):
        raise CalibrationRefused(f"time stands still in '{robot.spec.name}' between rows: nothing in it is late")
    with robot:
        if settings.what != "command" and robot.spec.images:
            for keys, measured in measure_cameras(robot, settings, person, clock):
                _keep(keys, measured, settings, found, failed)
        if settings.what != "cameras":
            keys = ("latency", "command_s")
            _keep(keys, lambda: measure_command(robot, limits, settings, person, clock), settings, found, failed)
    return found, failed


def _keep(
    keys: tuple[str, ...],
    estimate: Callable[[], tuple[float, str]],
    settings: CalibrateSettings,
    found: list[Measured],
    failed: list[str],
) -> None:
    try:
        new_s, detail = estimate()
    except NoLatency as error:
        failed.append(f"{'.'.join(keys)}: {error}")
        return
    section: Any = {"robot": settings.robot, "latency": settings.latency}
    for key in keys:
        section = section.get(key) if isinstance(section, Mapping) else None
    found.append(Measured(keys, section, new_s, detail))


def _with_plain_stamps(robot: dict[str, Any]) -> dict[str, Any]:
    """The robot's settings with its cameras' stamps as they come, without what was taken off them so far."""
    streams = robot.get("streams")
    if not isinstance(streams, Mapping):
        return robot
    plain = {
        name: {key: value for key, value in stream.items() if key != "latency_s"}
        if stream.get("kind") == "image"
        else stream
        for name, stream in streams.items()
    }
    return {**robot, "streams": plain}


def measure_command(
    robot: Robot, limits: CommandLimits, settings: CalibrateSettings, person: Person, clock: Clock
) -> tuple[float, str]:
    """Wiggles and returns the command latency [s], and in words how sure it is.

    Raises:
        NoLatency: See `command_latency`.
        RobotRLError: The person said no, or the robot cannot be moved.
    """
    names = movable(limits)
    if settings.dimension is None and not names:
        raise CalibrationRefused("no action dimension has a measured position: write limits.measured, or what=cameras")
    dimension = dimension_index(robot.spec, "dimension", settings.dimension or names[0])
    rest = np.zeros(round(REST_S * robot.spec.control_hz))
    once = wiggle(settings.duration_s, settings.slowest_hz, settings.fastest_hz, robot.spec.control_hz)
    once = np.concatenate([rest, once, rest])
    # All in one go: an arm node takes a pause in commands for a lost session.
    motion = np.tile(once, settings.repeats)

    def planned(seen: Observation) -> Wiggle:
        return plan_wiggle(limits, limits.start_pose(seen), dimension, settings.amplitude, motion)

    person.require(_announced(robot, planned(robot.observe(clock.now_ns())), settings))
    robot.reset(0)
    start = robot.observe(clock.now_ns())
    command_filter = FilteredCommands(limits)
    command_filter.reset(start)
    series = run_wiggle(robot, command_filter, clock, planned(start))
    robot.stop()
    return _together([command_latency(*each) for each in series.split(settings.repeats)])


def _announced(robot: Robot, planned: Wiggle, settings: CalibrateSettings) -> str:
    spec = robot.spec
    name = spec.action.names[planned.dimension] if spec.action.names else f"dimension {planned.dimension}"
    return (
        f"'{spec.name}' will be reset, which may drive it to its start, and then move {name} by "
        f"+-{planned.amplitude:.4g} ({spec.action.unit}) around where it is, {settings.repeats} times for "
        f"{settings.duration_s:g} s. Is everybody out of its way and somebody at the stop?"
    )


def _together(estimates: Sequence[CommandLatency]) -> tuple[float, str]:
    latencies = [each.latency_s for each in estimates]
    median = float(np.median(latencies))
    apart, worst = max(latencies) - min(latencies), max(each.error_s for each in estimates)
    if apart > max(4.0 * worst, 0.02):
        shown = ", ".join(f"{1e3 * each:.0f}" for each in latencies)
        raise NoLatency(f"the wiggles disagree: {shown} ms; look for what else loads the robot's computer or network")
    detail = (
        f"{len(estimates)} wiggles within {1e3 * apart:.1f} ms, correlation "
        f"{min(each.correlation for each in estimates):.3f}, the arm did {np.mean([e.gain for e in estimates]):.0%}"
    )
    return max(0.0, median), detail


def measure_cameras(
    robot: Robot, settings: CalibrateSettings, person: Person, clock: Clock
) -> Iterator[tuple[tuple[str, ...], Callable[[], tuple[float, str]]]]:
    """For every camera where its latency belongs, and what estimates it; shows a clock to those that see none."""
    names = robot.spec.images

    def look(streams: Sequence[str], longest_s: float) -> dict[str, list[Seen]]:
        return watch_pictures(robot, streams, clock, shown_time, settings.pictures, longest_s)

    first = look(names, min(GLANCE_S, settings.camera_s))
    ready = [name for name in names if first[name]]
    seen = look(ready, settings.camera_s) if ready else {}
    for name in names:
        screen_s = 0.0
        if name not in ready:
            screen_s = settings.screen_s
            seen |= _filmed(name, settings, person, look)
        keys = ("robot", "streams", name, "latency_s")
        yield keys, functools.partial(_of_camera, seen.get(name, []), screen_s)


def _filmed(
    name: str,
    settings: CalibrateSettings,
    person: Person,
    look: Callable[[Sequence[str], float], dict[str, list[Seen]]],
) -> dict[str, list[Seen]]:
    """What a camera sees of the on-screen clock; nothing where no person can hold it in front of the camera."""
    if person.reply is None:
        return {}
    with ExitStack() as stack:
        page = stack.enter_context(ClockPage(settings.port))
        person.console.print(
            f"open {page.url} in a browser on this computer (its clock and the robot's must agree: chrony), in full "
            f"screen, and let it fill the picture of {name}, in focus"
        )
        person.reply("Enter when it does; then hold still ")
        return look([name], settings.camera_s)


def _of_camera(pictures: Sequence[Seen], screen_s: float) -> tuple[float, str]:
    columns = np.array(pictures, np.int64).reshape(-1, 3).T
    found = camera_latency(columns[0] + round(screen_s * NS_PER_S), columns[1], columns[2])
    detail = (
        f"{found.pictures} pictures, spread {1e3 * found.spread_s:.1f} ms, arrival after {1e3 * found.arrival_s:.0f} ms"
    )
    return found.stamp_s, detail


def conclude(found: Sequence[Measured], settings: CalibrateSettings, path: Path, person: Person) -> None:
    """Shows old and new values and writes the new ones, if the person agrees."""
    for each in found:
        old = "nothing" if each.old_s is None else f"{1e3 * float(each.old_s):.1f} ms"
        person.console.print(
            f"{'.'.join(each.keys)}: {old} -> {1e3 * each.new_s:.1f} ms ({each.detail})",
            highlight=False,
            soft_wrap=True,
        )
        _warn_of_age(each, settings, person)
    if not settings.write:
        return
    text = path.read_text(encoding="utf-8")
    for each in found:
        text = with_value(text, each.keys, each.new_s)
    person.require(f"write this into {path}?")
    write_whole(path, text)
    person.console.print(f"written; {path.name} is otherwise unchanged")


def _warn_of_age(each: Measured, settings: CalibrateSettings, person: Person) -> None:
    """A camera whose latency alone is beyond its age limit would stop every episode."""
    if each.keys[0] != "robot":
        return
    limit_s = settings.robot["streams"][each.keys[2]].get("max_age_s")
    if limit_s is not None and each.new_s > 0.8 * float(limit_s):
        person.console.print(
            f"warning: {each.keys[2]} may be {1e3 * float(limit_s):.0f} ms old, of which this leaves little: raise its "
            "max_age_s, and limits.max_age_s, to its latency and two frames"
        )
