"""A robot's yaml put together as its nodes would, without connecting, opening or moving anything.

Whatever `robot-rl up` would make is made here: the robot, its limits, the arm node's driver and its loop with limits at
the rate of the rows and of the stream, the cameras. A robot that passes may be absent still; its yaml is sound.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hardware.arm.controller import ArmController
from hardware.arm.mail import Outlet
from hardware.arm.messages import ArmMode, Row
from hardware.arm.settings import ArmSettings
from hardware.cameras.calibration import read_calibration
from hardware.node_config import BadConfig, build, read_section
from hardware.ros.arm_session import spec_problems
from hardware.ros.arm_topics import action_names
from hardware.ros.camera_settings import read_camera
from hardware.ros.robot import RosRobot
from hardware.ros.yaml_section import topic_name
from hardware.safety.dimensions import dimension_name
from hardware.safety.limits import CommandLimits
from robot_rl.commands.up.node_plan import plan_nodes
from robot_rl.config.settings import ConfigError, to_dataclass
from robot_rl.core.clock import HostClock
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Judgement, Robot
from robot_rl.core.specs import ActionKind, RobotSpec
from robot_rl.core.targets import require_parameters, require_types
from robot_rl.runtime.meeting import RolloutSettings
from robot_rl.sessions.setup import TaskSettings, build_filter, build_robot

ROBOT_METHODS = ("reset", "observe", "apply", "stop", "__enter__", "__exit__")
LONGEST_BLIND_S = 60.0
LONGEST_WORDS = 1000
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
CAMERA_METHODS = ("read", "set_control", "describe", "__enter__", "__exit__")


def check_document(document: Mapping[str, Any]) -> None:
    """Refuses a resolved robot that could not be run.

    Args:
        document: The whole yaml, as `robot-rl up` writes it for its nodes.

    Raises:
        RobotRLError: Names the setting, what it is and what was wanted.
    """
    try:
        _check_parts(document)
    except RobotRLError as error:
        words = str(error)
        if len(words) <= LONGEST_WORDS:
            raise
        # A setting may be a list of thousands; what was wanted stands at the end.
        raise ConfigError(f"{words[: LONGEST_WORDS // 2]} ... {words[-LONGEST_WORDS // 2 :]}") from error


def _check_parts(document: Mapping[str, Any]) -> None:
    with in_words("the settings"):
        document = json.loads(json.dumps(document))
    plan_nodes(document, Path())
    _require_finite("", document)
    robot = _made_robot("robot", document["robot"], build_robot)
    with in_words("limits"):
        limits = CommandLimits.for_spec(robot.spec, document["limits"])
        _require_places(limits)
        _require_times(limits)
        build_filter(robot.spec, document["limits"], robot)
    if document["arm"]:
        _check_arm(document, robot)
    for name in document["cameras"]:
        with in_words(f"cameras.{name}"):
            _check_camera(document, name)
    _check_usage(document)


def _require_finite(where: str, value: object) -> None:
    """Refuses NaN, and infinity too but in the limits, where `.inf` is a binary dimension's."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _require_finite(f"{where}.{key}" if where else str(key), each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _require_finite(f"{where}[{index}]", each)
    elif isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not where.startswith("limits."))):
        raise ConfigError(f"{where} is {value}, wanted a finite number")


def _require_places(limits: CommandLimits) -> None:
    """Refuses an arm that would not know where it stands, or would take one joint's place for another's."""
    for index, kind in enumerate(limits.spec.action_kinds):
        where, axis = dimension_name(limits.spec, index), limits.measured.get(index)
        if kind is not ActionKind.RATE and axis is None and index not in limits.start:
            raise ConfigError(
                f"{where} starts nowhere: write limits.measured (stream, index, scale) or, where nothing measures it, "
                "limits.start"
            )
        if axis is None or index >= len(limits.spec.action.names):
            continue
        name, shown = limits.spec.action.names[index], limits.spec.observations[axis.stream].names
        if name in shown and shown.index(name) != axis.index:
            raise ConfigError(
                f"limits.measured of {where}: index {axis.index} of '{axis.stream}' is '{shown[axis.index]}'; "
                f"'{name}' is {shown.index(name)}"
            )


def _require_times(limits: CommandLimits) -> None:
    """Refuses times so long that what they watch over is as good as not watched."""
    times = {f"max_age_s of '{name}'": seconds for name, seconds in limits.max_age_s.items()}
    times |= {"ramp_after_s": limits.ramp_after_s, "fault_after_s": limits.fault_after_s}
    for name, seconds in times.items():
        if seconds > LONGEST_BLIND_S:
            raise ConfigError(f"limits.{name} is {seconds:g} s, wanted at most {LONGEST_BLIND_S:g} s")


@contextlib.contextmanager
def in_words(where: str) -> Iterator[None]:
    """Whatever anybody's class raises becomes an error that names the part of the yaml."""
    try:
        yield
    except RobotRLError as error:
        if where in str(error):
            raise
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # classes of a yaml are anybody's code
        what = "too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where} cannot be used ({what}): compare with configs/robot/ros/sim_joint.yaml") from error


def _made_robot(where: str, settings: object, make: Any) -> Robot:
    """The robot of a section: of a class that looks like one, not entered."""
    target = _required_target(where, settings, ROBOT_METHODS)
    with in_words(where):
        robot: Robot = make(settings)
    _require_methods(where, target, type(robot), ROBOT_METHODS)
    if not isinstance(getattr(robot, "spec", None), RobotSpec):
        raise ConfigError(f"{where}: {target} has no RobotSpec as its attribute 'spec', which every robot has")
    return robot


def _required_target(where: str, settings: object, methods: tuple[str, ...]) -> str:
    if not isinstance(settings, Mapping) or "_target_" not in settings:
        raise ConfigError(f"{where} is {settings!r}, wanted a mapping with a _target_ that names its class")
    try:
        made = require_parameters(settings, ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    target = str(settings["_target_"])
    if not inspect.isclass(made) and not inspect.isfunction(made):
        raise ConfigError(f"{where}: {target} is {type(made).__name__}, wanted a class")
    # Before anything of it runs: a typing mistake in a yaml must not call what is no robot at all.
    if inspect.isclass(made):
        _require_methods(where, target, made, methods)
    for name, parameter in inspect.signature(made).parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in VARIADIC
        if required and name not in settings and name != "clock":
            raise ConfigError(f"{where}.{name} is missing; {target} needs it")
    require_types(f"{where} ({target})", made, settings, BadConfig)
    return target


def _require_methods(where: str, target: str, kind: type, methods: tuple[str, ...]) -> None:
    missing = [name for name in methods if not callable(getattr(kind, name, None))]
    if missing:
        raise ConfigError(f"{where}: {target} has no {', '.join(missing)}; wanted a class with {', '.join(methods)}")


def _check_arm(document: Mapping[str, Any], robot: Robot) -> None:
    """Makes what the arm node would, as it would."""
    arm = read_section("arm", document["arm"], ArmSettings)
    if not arm.namespace.strip("/"):
        raise ConfigError("arm.namespace is empty: name where the arm's topics live, for example /my_arm")
    topic_name(arm.namespace, "arm.namespace")
    driver = _made_robot("arm.driver", arm.driver, build)
    with in_words("arm"):
        action_names(driver.spec)
        loop = ArmController(driver, arm, document["limits"], document["robot"].get("control_hz"), _Nobody())
    if isinstance(robot, RosRobot) and robot.config.adapter == "arm_node":
        _check_both_ends(robot, arm, loop.spec)


def _check_both_ends(robot: RosRobot, arm: ArmSettings, theirs: RobotSpec) -> None:
    """Refuses a robot that would wait in vain for what its arm node says."""
    mine, here = robot.config, robot.config.namespace.strip("/")
    if here != arm.namespace.strip("/"):
        raise ConfigError(f"arm.namespace is {arm.namespace}, but robot.namespace is {mine.namespace}: wanted one")
    if bool(mine.command.get("lockstep", False)) is not arm.lockstep:
        raise ConfigError(f"arm.lockstep is {arm.lockstep}, but robot.command.lockstep is not: wanted the same")
    problems = spec_problems(mine.spec, theirs)
    if problems:
        raise ConfigError("; ".join(problems))
    for name, stream in mine.streams.items():
        if not stream.is_image and not stream.topic.startswith("/") and name not in theirs.observations:
            shown = ", ".join(theirs.observations)
            raise ConfigError(f"robot.streams.{name}: arm.driver has no such stream to show; it has {shown}")


def _check_camera(document: Mapping[str, Any], name: str) -> None:
    """Makes a camera's source; entering would open it."""
    topic_name(name, f"the name of cameras.{name}")
    settings = read_camera(document, name)
    topic_name(settings.namespace, f"cameras.{name}.namespace")
    target = _required_target(f"cameras.{name}.source", settings.source, CAMERA_METHODS)
    for control, value in settings.with_controls(settings.controls).controls.items():
        if not math.isfinite(value):
            raise ConfigError(f"cameras.{name}.source.controls.{control} is {value}, wanted a finite number")
    with in_words(f"cameras.{name}.source"):
        source = settings.make_source(HostClock())
    _require_methods(f"cameras.{name}.source", target, type(source), CAMERA_METHODS)
    if settings.calibration:
        read_calibration(settings.calibration)


def _check_usage(document: Mapping[str, Any]) -> None:
    """What the file says of the robot's use: its task, rollout and latency."""
    for key, schema in (("task", TaskSettings), ("rollout", RolloutSettings)):
        if document[key]:
            try:
                to_dataclass(dict(document[key]), schema)
            except ConfigError as error:
                raise ConfigError(f"{key}.{error}") from error
    for name, value in document["latency"].items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
            raise ConfigError(f"latency.{name} is {value!r}, wanted seconds of at least 0")


class _Nobody(Outlet):
    """Where the messages of a loop go that never runs."""

    def show(self, observation: Observation) -> None: ...

    def acknowledge(self, row: Row) -> None: ...

    def judge(self, stamp_ns: int, judgement: Judgement) -> None: ...

    def tell(self, mode: ArmMode) -> None: ...
