"""The processes that `faults.py`, `neighbours.py` and `speed.py` start around an arm node.

    python -m benchmarks.ros.fault_actors policy SETTINGS.json DATASET     # a deploy session, episode by episode
    python -m benchmarks.ros.fault_actors leader SETTINGS.json             # the driver of a leader arm
    python -m benchmarks.ros.fault_actors intruder SETTINGS.json           # another sender of commands
    python -m benchmarks.ros.fault_actors camera SETTINGS.json             # a foreign camera driver that can go wrong
    python -m benchmarks.ros.fault_actors vendor SETTINGS.json             # an arm's own driver, in its own process

Each says "ready" once it is imported, takes one JSON object per line on stdin, and says what happens as JSON lines on
stdout, with `at_ns` on the machine's monotonic clock.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console

from data.recorder.writer import EpisodeWriter
from hardware.cameras.frame_source import encode_jpeg
from hardware.cameras.pattern import PatternCamera
from hardware.operators.leader.following import LeaderFollowing, LeaderLayout
from hardware.operators.leader.operator import LeaderArmOperator
from hardware.operators.leader.watch import LeaderWatch
from hardware.operators.terminal.key_events import KeyEvents
from hardware.ros import arm_topics
from hardware.ros.background_node import BackgroundNode
from hardware.ros.camera_node import compressed_image
from hardware.ros.client import QoSProfile, message, qos_profile_sensor_data
from hardware.ros.leader_arm import LeaderTopic
from hardware.sim.joint_arm import NAMES, JointArm
from robot_rl.core.clock import HostClock
from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import EpisodeSink
from robot_rl.core.specs import NS_PER_S, FloatArray, RobotSpec
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.sessions.session import Session
from robot_rl.sessions.setup import NoSink, TaskSettings, build_filter, build_operator, build_robot, judge_of

SPEED = 0.6
"""Of the first joint while a policy or leader moves it [rad/s]; its limit is 0.75."""
RAMP_S = 0.8
"""Over which it gets there, so that the command filter has nothing to change."""
TURN_RAD = 0.5
ROWS = 8
LEADER_TOPIC = "/leader/joint_states"
VENDOR_STATES, VENDOR_POSE = "/vendor/joint_states", "/vendor/tool_pose"
VENDOR_COMMANDS, VENDOR_GRIPPER = "/vendor/commands", "/vendor/gripper"
VENDOR_HZ = 200.0
LATE_S = 1.0
"""How old the pictures of the camera mode `late` are."""


def say(what: str, **facts: Any) -> None:
    """One line for the process that started this one."""
    sys.stdout.write(json.dumps({"said": what, "at_ns": time.monotonic_ns(), **facts}) + "\n")
    sys.stdout.flush()


def swept(elapsed_s: float) -> float:
    """How far a joint that ramps to `SPEED` has come [rad]."""
    if elapsed_s < RAMP_S:
        return SPEED * elapsed_s * max(0.0, elapsed_s) / (2 * RAMP_S)
    return SPEED * (elapsed_s - RAMP_S / 2)


class Asked:
    """What is asked on stdin, and the keys among it; a closed stdin asks for the end."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._keys: collections.deque[bytes] = collections.deque()
        self._looked = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            asked = json.loads(line)
            if "key" in asked:
                self._keys.append(asked["key"].encode())
            else:
                self._asked.put(asked)
        self._asked.put(None)

    def next(self, timeout_s: float | None = None) -> Mapping[str, Any] | None:
        """The next request, {} if none comes in time, None at the end."""
        try:
            return self._asked.get(timeout=timeout_s)
        except queue.Empty:
            return {}

    # A terminal for the operator

    def __enter__(self) -> Self:
        self._looked = 0
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def read(self) -> bytes:
        """Keys since the last call; says when an episode listens to them."""
        self._looked += 1
        if self._looked == 2:
            # The first look, at the beginning of an episode, throws away what was typed before it.
            say("listening")
        return self._keys.popleft() if self._keys else b""

    def write(self, text: str) -> None:
        """Shows nothing."""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines; nothing is shown."""
        return 80, 24


class Sweep:
    """A policy that turns the first joint at a constant speed from where an episode begins, away from its end."""

    observation_count = 1
    fingerprint = "sweep"
    execute_horizon = ROWS // 2

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self._start: tuple[int, FloatArray] | None = None

    def reset(self, seed: int) -> None:
        """Begins where the next observation is."""
        self._start = None

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Rows from where the episode began, as the time since says."""
        seen = history[-1]
        if self._start is None:
            self._start = seen.stamp_ns, np.array(seen.values["joint_position"], dtype=np.float64)
        since_ns, place = self._start
        rows = np.tile(place, (ROWS, 1))
        elapsed_s = (seen.stamp_ns - since_ns + np.arange(ROWS) * self.spec.tick_ns) / NS_PER_S
        away = -1.0 if place[0] > TURN_RAD else 1.0
        rows[:, 0] += [away * swept(each) for each in elapsed_s]
        rows[:, -1] = 1.0
        low, high = self.spec.action.bounds()
        return ActionChunk(np.clip(rows, low, high).astype(self.spec.action.dtype), seen.stamp_ns)


def policy(settings: dict[str, Any], asked: Asked, dataset: str) -> None:
    """What `robot-rl deploy` does, or `collect` with a leader arm; each request is one episode with a fresh connection.

    The dataset is opened at the first request, so that a process may wait in reserve, and left at the end.
    """
    with ExitStack() as stack:
        sink: EpisodeSink | None = None
        robot = build_robot(settings["robot"])
        say("ready")
        while (request := asked.next()) is not None:
            if sink is None:
                writer = EpisodeWriter(dataset, robot.spec) if dataset else None
                sink = NoSink() if writer is None else stack.enter_context(writer)
            run_once(robot, settings, asked, sink, request)
    say("left")


def run_once(robot: Any, settings: dict[str, Any], asked: Asked, sink: EpisodeSink, request: Mapping[str, Any]) -> None:
    """Connects, runs one episode, and says how it ended."""
    heard: list[str] = []
    leads = bool(request.get("leader"))
    operator = leader_operator(robot.spec, asked, heard) if leads else absent(robot.spec)
    options = RolloutSettings(max_ticks=request.get("ticks", 2000), execute_horizon=None if leads else ROWS // 2)
    session, ended = None, ""
    try:
        with robot, operator:
            say("connected")
            policy, command_filter = None if leads else Sweep(robot.spec), build_filter(robot.spec, settings["limits"])
            task, console = TaskSettings(name="sweep", max_ticks=2000), Console(file=io.StringIO())
            who = Meeting(robot, policy, operator, judge_of(robot, task), HostClock(), command_filter, sink)
            session = Session(who, options, task, console)
            session.run(request["seed"], 1)
    except RobotRLError as error:
        ended = str(error)
    results = [] if session is None else session.results
    say(
        "ended",
        reason=ended or (results[-1].reason if results else ""),
        heard=heard,
        ticks=results[-1].ticks if results else 0,
        cadence=dict(results[-1].cadence) if results else {},
        counters=robot.counters,
    )


def absent(spec: RobotSpec) -> Any:
    """Nobody."""
    return build_operator({"_target_": "hardware.operators.simulated.absent.AbsentOperator"}, spec)


def leader_operator(spec: RobotSpec, asked: Asked, heard: list[str]) -> LeaderArmOperator:
    """A person with a leader arm, whose keys come from stdin."""
    document = {spec.name: {"following": [_follows(index) for index in range(len(NAMES) - 1)], "switching": []}}
    document[spec.name]["switching"] = [
        {"dimension": "gripper", "joint": "gripper", "first": 0.0, "second": 1.0, "threshold": 0.5, "margin": 0.05}
    ]
    layout = LeaderLayout.for_spec(spec, document)
    following = LeaderFollowing(spec, layout, 0.1, 0.4)
    bound = {"max_speed": 15.0, "margin": 0.1}
    leader = LeaderTopic(LEADER_TOPIC, layout.joints, 0.1, 5.0, bound)
    watch = LeaderWatch(layout.joints, **bound)
    return LeaderArmOperator(spec, leader, following, KeyEvents(asked), watch, say=heard.append)


def _follows(index: int) -> dict[str, Any]:
    return {"dimension": index, "joint": NAMES[index], "stream": "joint_position", "index": index}


def joint_states(stamp_ns: int, positions: Sequence[float]) -> Any:
    """A JointState of the simulated arm's joints."""
    topic = arm_topics.Topic("joint_states", "sensor_msgs/msg/JointState")
    return arm_topics.encode_numbers(topic, stamp_ns, "", NAMES, np.asarray(positions, dtype=np.float64))


def leader(settings: dict[str, Any], asked: Asked) -> None:
    """Mirrors the follower, as a person's hand would bring them together, and sweeps when asked to."""
    newest: list[list[float]] = []
    with BackgroundNode("leader") as link:
        states = message("sensor_msgs/msg/JointState")
        out = link.node.create_publisher(states, LEADER_TOPIC, qos_profile_sensor_data)
        where = arm_topics.absolute(settings["arm"]["namespace"], "joint_states")
        link.node.create_subscription(
            states, where, lambda heard: newest.append(list(heard.position)), qos_profile_sensor_data
        )
        link.spin()
        say("ready")
        since_s, start = 0.0, [0.0] * len(NAMES)
        while (request := asked.next(0.01)) is not None:
            if "sweep" in request:
                since_s, start = time.monotonic(), list(newest[-1])
            place = list(start) if since_s else list(newest[-1] if newest else start)
            del newest[:-1]
            if since_s:
                place[0] += (-1.0 if start[0] > TURN_RAD else 1.0) * swept(time.monotonic() - since_s)
            if since_s or newest:
                out.publish(joint_states(link.now_ns(), place))


def intruder(settings: dict[str, Any], asked: Asked) -> None:
    """Sends one command of its own when asked to, as a second session on the arm would, or a flood of heartbeats."""
    namespace = settings["arm"]["namespace"]
    with BackgroundNode("intruder") as link:
        topic = arm_topics.COMMAND
        out = link.node.create_publisher(topic.message(), arm_topics.absolute(namespace, topic.name), topic.qos())
        link.spin()
        say("ready")
        heartbeats = link.node.create_publisher(
            arm_topics.DEADMAN.message(),
            arm_topics.absolute(namespace, arm_topics.DEADMAN.name),
            arm_topics.DEADMAN.qos(),
        )
        while (request := asked.next(0.05)) is not None:
            if "flood" in request:
                for _ in range(request["flood"]):
                    heartbeats.publish(arm_topics.encode_header(link.now_ns(), "intruder"))
                    time.sleep(request["pause_s"])
                say("flooded")
            if "send" in request:
                row = arm_topics.encode_row(link.now_ns(), "intruder", NAMES, np.zeros(len(NAMES)))
                sent_ns = time.monotonic_ns()
                out.publish(row)
                say("sent", sent_ns=sent_ns)


def camera(settings: dict[str, Any], asked: Asked) -> None:
    """A camera driver that is not ours.

    Modes: `well`; `stamp` repeats the last message; `late` shows what it saw a second ago as if it were new.
    """
    where = settings["robot"]["streams"]["image_front"]["topic"]
    topic = arm_topics.absolute(settings["robot"]["namespace"], where)
    with BackgroundNode("foreign_camera") as link:
        out = link.node.create_publisher(message("sensor_msgs/msg/CompressedImage"), topic, qos_profile_sensor_data)
        link.spin()
        say("ready")
        source = PatternCamera(clock=HostClock(link.now_ns), width=320, height=240, fps=30.0)
        mode, shown = "well", None
        with source:
            while (request := asked.next(0.0)) is not None:
                if "mode" in request:
                    mode = request["mode"]
                    say("mode", mode=mode)
                frame = source.read(1.0)
                if mode != "stamp" or shown is None:
                    late_ns = round(LATE_S * NS_PER_S) if mode == "late" else 0
                    header = arm_topics.encode_header(frame.stamp_ns, "front_camera")
                    shown = compressed_image(header, encode_jpeg(source.draw(frame.stamp_ns - late_ns), 90))
                out.publish(shown)


def vendor(settings: dict[str, Any], asked: Asked) -> None:
    """An arm's own driver: it goes where its last command says, whoever may have died since."""
    arm = JointArm()
    with BackgroundNode("vendor") as link:
        states = link.node.create_publisher(
            message("sensor_msgs/msg/JointState"), VENDOR_STATES, qos_profile_sensor_data
        )
        pose_topic = arm_topics.Topic("tool_pose", "geometry_msgs/msg/PoseStamped")
        poses = link.node.create_publisher(pose_topic.message(), VENDOR_POSE, qos_profile_sensor_data)
        command = np.array([*arm.position()[:-1], 1.0], dtype=np.float32)

        def obey(joints: slice, values: Any) -> None:
            command[joints] = values
            arm.apply(command)

        for kind, where, joints in (
            ("std_msgs/msg/Float64MultiArray", VENDOR_COMMANDS, slice(0, -1)),
            ("std_msgs/msg/Float64", VENDOR_GRIPPER, slice(-1, None)),
        ):
            link.node.create_subscription(
                message(kind), where, lambda heard, joints=joints: obey(joints, heard.data), QoSProfile(depth=1)
            )

        def show() -> None:
            seen = arm.observe(0)
            now_ns = link.now_ns()
            states.publish(joint_states(now_ns, seen.values["joint_position"].tolist()))
            poses.publish(arm_topics.encode_stream(pose_topic, now_ns, (), seen.values["tool_pose"]))

        link.node.create_timer(1 / VENDOR_HZ, show)
        link.spin()
        say("ready")
        while asked.next(1.0) is not None:
            link.require_alive()


def main() -> None:
    alone = {"leader": leader, "intruder": intruder, "camera": camera, "vendor": vendor}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actor", choices=["policy", *alone])
    parser.add_argument("settings", type=Path, help="the whole robot, as its nodes read it")
    parser.add_argument("dataset", nargs="?", default="", help="of a policy's episodes; not recorded if empty")
    arguments = parser.parse_args()
    settings, asked = json.loads(arguments.settings.read_text()), Asked()
    if arguments.actor == "policy":
        policy(settings, asked, arguments.dataset)
    else:
        alone[arguments.actor](settings, asked)


if __name__ == "__main__":
    main()
