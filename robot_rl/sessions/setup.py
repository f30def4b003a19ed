"""What collect, eval and deploy set up alike: robot, filter, operator and policy, built from settings.

The command filter's state lives here, because `run_episode` may not know `hardware` and the filter itself is pure.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from hardware.safety.command_filter import ClosedLoopCommands, FilteredCommands
from hardware.safety.limits import CommandLimits, KeepsWithin
from policies.bundle import MODEL_FILE
from robot_rl.config.search import find_option, search_directories
from robot_rl.config.settings import MISSING, build, compose, to_dataclass
from robot_rl.core.capabilities import require_shape
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Step
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import (
    OPERATOR_CAPABILITIES,
    ExecutesRows,
    Judge,
    Operator,
    Policy,
    Robot,
    is_person,
    is_watched,
    stands_still,
)
from robot_rl.core.specs import RobotSpec
from robot_rl.core.version import software_version
from robot_rl.runtime.meeting import RolloutSettings


class PolicyMissing(RobotRLError):
    """No policy where the user said it is."""


@dataclass
class TaskSettings:
    """A task: `configs/task/*.yaml`.

    Attributes:
        name: For example `peg-insert-side-v3`.
        max_ticks: Time limit of an episode.
        instruction: What is to be done, for people.
        judge: Who says how well it goes, a class with a method `judge()`, by `_target_` with its arguments; it is given
            the `robot` besides. Empty leaves it to the robot, if that can tell.
    """

    name: str = MISSING
    max_ticks: int = MISSING
    instruction: str = ""
    judge: dict[str, Any] = field(default_factory=dict)


@dataclass
class SessionSettings:
    """What every command that runs episodes is told.

    Attributes:
        robot: `configs/robot/*.yaml`: the class and its arguments.
        limits: The same file's limits of the command filter.
        arm: The same file's settings of `arm_node`, which a robot behind ROS 2 topics has.
        cameras: The same file's `camera_node` processes by name.
        latency: The same file's measured latencies: `command_s` is from sending an action to the arm moving.
        operator: `configs/operator/*.yaml`.
        task: `configs/task/*.yaml`.
        rollout: See `RolloutSettings`.
    """

    robot: dict[str, Any] = MISSING
    limits: dict[str, Any] = MISSING
    operator: dict[str, Any] = MISSING
    task: TaskSettings = field(default_factory=TaskSettings)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    arm: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Rows are sent early by the robot's own latency, unless the user says another."""
        command_s = self.latency.get("command_s")
        if self.rollout.action_latency_s is None and command_s is not None:
            self.rollout = replace(self.rollout, action_latency_s=float(command_s))


@dataclass
class RobotFile:
    """A yaml file of `configs/robot/`, all of it.

    Attributes:
        robot: See `SessionSettings`, likewise `limits`, `arm`, `cameras` and `latency`.
        task: What the robot is usually asked to do, where the file says so.
        rollout: Likewise how, see `RolloutSettings`.
    """

    robot: dict[str, Any] = MISSING
    limits: dict[str, Any] = MISSING
    arm: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    rollout: dict[str, Any] = field(default_factory=dict)


def load_robot(name: str, overrides: Sequence[str] = ()) -> RobotFile:
    """A robot's yaml by itself.

    Args:
        name: For example `ros/my_arm`.
        overrides: Settings within it.

    Raises:
        ConfigError: There is no such file, which lists those that are; or it holds something else.
    """
    find_option("robot", name, search_directories())
    return to_dataclass(compose(f"robot/{name}", overrides), RobotFile)


class NoSink:
    """Keeps nothing of an episode."""

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """Nothing to prepare."""

    def append(self, step: Step) -> None:
        """Forgets the step."""

    def end(self, result: EpisodeResult) -> None:
        """`run_episode` gives the result to its caller."""

    def discard(self) -> None:
        """Nothing was kept."""


def build_robot(settings: dict[str, Any]) -> Robot:
    """The robot that `configs/robot/*.yaml` names."""
    return cast(Robot, build(settings))


def build_filter(spec: RobotSpec, limits: Mapping[str, Any], robot: object = None) -> FilteredCommands:
    """The command filter of a robot with this spec; every limit must be in its yaml.

    Args:
        spec: The robot's.
        limits: As in its yaml.
        robot: The one that is commanded. It is told the limits where its actions add up; where it moves by itself and
            nobody else watches it, the filter closes the loop.

    Raises:
        LimitError: A limit is missing or makes no sense.
    """
    checked = CommandLimits.for_spec(spec, limits)
    if isinstance(robot, KeepsWithin):
        robot.keep_within(checked)
    if robot is None or stands_still(robot) or is_watched(robot):
        return FilteredCommands(checked)
    return ClosedLoopCommands(checked, robot)


def build_operator(settings: dict[str, Any], spec: RobotSpec) -> Operator:
    """The operator that `configs/operator/*.yaml` names; a `_partial_` one is given the robot's spec.

    Raises:
        RobotRLError: It has a capability of the wrong shape.
    """
    operator = build(settings)
    if isinstance(operator, functools.partial):
        operator = operator(spec=spec)
    require_shape(operator, OPERATOR_CAPABILITIES)
    return cast(Operator, operator)


def judge_of(robot: Robot, task: TaskSettings) -> Judge | None:
    """The task's own, else the robot itself where it can judge, as simulated ones do; else the operator labels.

    Raises:
        RobotRLError: The task names something that is no judge.
    """
    if not task.judge:
        return robot if isinstance(robot, Judge) else None
    judge = build(task.judge, robot=robot)
    require_shape(judge, [Judge])
    if not isinstance(judge, Judge):
        raise RobotRLError(
            f"task.judge: {task.judge['_target_']} has no method judge(), wanted a Judge of robot_rl/core/protocols.py"
        )
    return judge


def runs_in_real_time(robot: Robot, operator: Operator, wanted: bool | None = None) -> bool:
    """Whether episodes run at the robot's own rate.

    Args:
        robot: One that moves by itself must.
        operator: A person must.
        wanted: What the user says; None is only if they must.

    Raises:
        RobotRLError: The user says no although they must.
    """
    if stands_still(robot) and not is_person(operator):
        return bool(wanted)
    if wanted is False:
        raise RobotRLError(f"realtime=false, but {_why_real_time(robot, operator)}: leave realtime out")
    return True


def require_one_process(robot: Robot, operator: Operator, workers: int) -> None:
    """Refuses several processes where there can be but one.

    Raises:
        RobotRLError: A robot that moves by itself, or a person, cannot be in several processes.
    """
    if workers > 1 and runs_in_real_time(robot, operator):
        raise RobotRLError(
            f"workers={workers}, but {_why_real_time(robot, operator)} and is there only once: workers=1"
        )


def _why_real_time(robot: Robot, operator: Operator) -> str:
    if is_person(operator):
        return f"operator '{operator.name}' is a person"
    return f"robot '{robot.spec.name}' moves by itself (it declares no simulated_time)"


def load_acting_policy(path: str, device: str = "cpu") -> Policy:
    """A policy ready to act: an exported bundle without torch, or a training checkpoint with it.

    Raises:
        PolicyMissing: Neither is at `path`; names the commands that make them.
    """
    place = Path(path)
    if (place / MODEL_FILE).is_file():
        from policies.onnx_policy import OnnxPolicy

        return OnnxPolicy(place)
    if (place / "checkpoints").is_dir() or (place / "weights.safetensors").is_file():
        from policies.torch_policy import TorchPolicy
        from robot_rl.run.checkpoint import load_policy, read_record

        return TorchPolicy(load_policy(place, device), device, read_record(place)["provenance"])
    raise PolicyMissing(
        f"no policy at {place}: wanted a bundle (robot-rl export run=... makes one) "
        "or a run directory (robot-rl train ... makes one)"
    )


def options_for(policy: Policy | None, task: TaskSettings, options: RolloutSettings) -> RolloutSettings:
    """The rollout's options with the task's time limit and the policy's own execution horizon filled in."""
    own = policy.execute_horizon if isinstance(policy, ExecutesRows) else None
    horizon = own if options.execute_horizon is None else options.execute_horizon
    return replace(options, max_ticks=options.max_ticks or task.max_ticks, execute_horizon=horizon)


def header_for(task: TaskSettings, operator: Operator, policy: Policy | None, seed: int) -> EpisodeHeader:
    """What is known when an episode begins."""
    return EpisodeHeader(
        task=task.name,
        operator=operator.name,
        policy=policy.fingerprint if policy is not None else "",
        seed=seed,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        software_version=software_version(),
    )
