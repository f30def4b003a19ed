"""Any in-process robot as a ROS node, and the one place where it is decided whether an arm may move.

    python -m hardware.ros.arm_node --ros-args -p config:=/path/robot.json

Callbacks only fill a mailbox. A thread of its own owns the driver, wakes for every tick and every piece of mail, and
does what `ArmController` says, so that a busy executor cannot delay the stream. SIGINT and SIGTERM brake the arm within
its limits, send the safe command last, and disconnect the driver.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hardware.arm.controller import ArmController
from hardware.arm.mail import Arrival, BadMail, Mail, Mailbox, ResetMail, RowMail
from hardware.arm.messages import ArmMode, Row
from hardware.arm.settings import ArmSettings
from hardware.arm.state import LATCHED, Clear, Enable, Heartbeat, Mode, Stop
from hardware.arm.thread import ArmThread
from hardware.node_config import BadConfig, build, read_config, read_section
from hardware.ros import arm_topics
from hardware.ros.arm_topics import BadMessage, Topic, absolute, decode_header
from hardware.ros.client import Node, SignalHandlerOptions, SingleThreadedExecutor, message, rclpy, require_ros
from hardware.ros.spinning_thread import SpinningThread
from robot_rl.core.clock import SWITCH_INTERVAL_S
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Judge, Judgement, Robot

DIAGNOSTICS_S = 1.0
IDLE_HZ = 20.0
"""How often a driver in lockstep is looked at while nobody commands it."""
WAITING = 100
"""Heartbeats and rows that are kept until heard, so that a neighbour's do not push a session's own out unseen."""
SAYS_STOP = (arm_topics.STOP, arm_topics.ENABLE, arm_topics.CLEAR, arm_topics.RESET)
"""A `false` right behind the `true` of a stop made it unheard where only the last was kept: 52 of 52."""
WATCH_S = 0.2


class _StreamOut(NamedTuple):
    topic: Topic
    names: tuple[str, ...]
    publisher: Any


class ArmNode(Node):
    """See the module, and `arm_topics` for what it says and hears.

    Args:
        config: The robot's settings; read from the file that parameter `config` names if None.

    Raises:
        RobotRLError: The settings make no sense, or do not fit the driver.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__("arm_node")
        path = self.declare_parameter("config", "").value
        self._config = read_config(path) if config is None else config
        self.settings = read_section("arm", self._config.get("arm"), ArmSettings)
        self._driver: Robot = build(self.settings.driver)
        self._names = arm_topics.action_names(self._driver.spec)
        self._mailbox = Mailbox()
        self._told = ArmMode(Mode.INACTIVE)
        self._outgoing = {
            topic: self._publisher(topic)
            for topic in (arm_topics.APPLIED, arm_topics.JUDGEMENT, arm_topics.MODE, arm_topics.DIAGNOSTICS)
            if topic is not arm_topics.JUDGEMENT or isinstance(self._driver, Judge)
        }
        self._streams = self._stream_publishers()
        self._shown_ns = dict.fromkeys(self._streams, -1)
        hz = IDLE_HZ if self.settings.lockstep else self.settings.stream_hz
        self._loop = self._make_loop()
        priority = self.settings.realtime_priority
        self._stream = ArmThread(self._driver, self._loop, self._mailbox, self._now_ns, hz, priority)

    def start(self) -> None:
        """Connects the driver, and only then listens.

        Raises:
            RobotRLError: The driver could not be connected.
        """
        self._stream.start()
        self._listen()
        self.create_timer(DIAGNOSTICS_S, self._diagnose)
        self.get_logger().info(
            f"arm '{self._driver.spec.name}' at {self.settings.namespace}, "
            + ("in lockstep" if self.settings.lockstep else f"stream at {self.settings.stream_hz:g} Hz")
        )

    def end(self) -> None:
        """Brings the arm to rest and disconnects its driver."""
        self._stream.end()

    def require_alive(self) -> None:
        """Refuses to go on without the arm's thread.

        Raises:
            RobotRLError: It has ended.
        """
        if not self._stream.alive:
            raise RobotRLError(f"the arm's thread ended: {self._stream.failure!r}; start the node again")

    def _make_loop(self) -> ArmController:
        limits = self._config.get("limits")
        if not isinstance(limits, dict):
            raise BadConfig("the robot's settings have no 'limits': an arm without limits is not moved")
        row_hz = (self._config.get("robot") or {}).get("control_hz")
        return ArmController(self._driver, self.settings, limits, row_hz, self)

    # Out

    def show(self, observation: Observation) -> None:
        """Publishes every stream whose sample is new; in lockstep every one, for those who came later."""
        for name, out in self._streams.items():
            captured_ns = observation.stamp_ns - observation.age_ns[name]
            if self.settings.lockstep or captured_ns != self._shown_ns[name]:
                self._shown_ns[name] = captured_ns
                value = observation.values[name]
                out.publisher.publish(arm_topics.encode_stream(out.topic, captured_ns, out.names, value))

    def acknowledge(self, row: Row) -> None:
        """Publishes what is done for a row."""
        self._outgoing[arm_topics.APPLIED].publish(arm_topics.encode_applied(row, self._names))

    def judge(self, stamp_ns: int, judgement: Judgement) -> None:
        """Publishes how the state after a row is judged."""
        values = np.array([judgement.reward, judgement.success, judgement.done], dtype=np.float64)
        topic = arm_topics.JUDGEMENT
        self._outgoing[topic].publish(
            arm_topics.encode_numbers(topic, stamp_ns, "", arm_topics.JUDGEMENT_NAMES, values)
        )

    def tell(self, mode: ArmMode) -> None:
        """Publishes the mode, and logs what a person should know; if that fails, an arm that may move is stopped."""
        before, self._told = self._told, mode
        topic = arm_topics.MODE
        try:
            self._outgoing[topic].publish(topic.message()(data=mode.to_json()))
            self._log(before, mode)
        except Exception as error:  # the arm's thread calls this, and only it can brake the arm
            sys.stderr.write(f"arm_node: cannot tell that it is {mode.mode} ({mode.reason}): {error!r}\n")
            if mode.mode not in LATCHED:
                self._put(Stop(f"the arm node cannot tell its mode: {error!r}; clear to go on"), urgent=True)

    def _log(self, before: ArmMode, mode: ArmMode) -> None:
        if mode.refusal and mode.refusal != before.refusal:
            self.get_logger().warning(mode.refusal)
        if mode.mode is before.mode:
            return
        # Two calls: rclpy refuses a second severity from the same line of code.
        if mode.mode in LATCHED:
            self.get_logger().error(f"{mode.mode}: {mode.reason}")
        else:
            self.get_logger().info(f"{mode.mode}: {mode.reason}")

    # In

    def _listen(self) -> None:
        handlers: list[tuple[Topic, Callable[[Any], None]]] = [
            (arm_topics.COMMAND._replace(depth=WAITING), self._heard_command),
            (arm_topics.ENABLE, lambda heard: self._put(Enable(bool(heard.data)))),
            (arm_topics.DEADMAN._replace(depth=WAITING), self._heard_heartbeat),
            (arm_topics.STOP, self._heard_stop),
            (arm_topics.CLEAR, lambda heard: self._put(Clear(heard.data), urgent=True)),
            (arm_topics.RESET, self._heard_reset),
        ]
        for topic, handler in handlers:
            qos = topic.qos(volatile=topic is arm_topics.ENABLE, everything=topic in SAYS_STOP)
            self.create_subscription(topic.message(), self._absolute(topic), handler, qos)

    def _put(self, mail: Mail, *, urgent: bool = False) -> None:
        self._mailbox.put(Arrival(mail, time.monotonic_ns(), self._now_ns()), urgent=urgent)

    def _heard_stop(self, heard: Any) -> None:
        if heard.data:
            self._put(Stop("the stop was pressed; clear to go on"), urgent=True)

    def _heard_heartbeat(self, heard: Any) -> None:
        session, number = arm_topics.session_and_number(heard.frame_id)
        # Whoever else beats, however fast, must not keep the arm's thread busy.
        if self._told.session in ("", session):
            self._put(Heartbeat(session, number))

    def _heard_command(self, heard: Any) -> None:
        try:
            row = arm_topics.decode_row(heard, self._names)
        except BadMessage as error:
            stamp_ns, sender = decode_header(heard.header)
            session, number = arm_topics.session_and_number(sender)
            self._put(RowMail(stamp_ns, session, None, f"command of {session} is malformed: {error}", number))
            return
        with np.errstate(over="ignore"):
            values = row.values.astype(self._driver.spec.action.dtype)
        self._put(RowMail(row.stamp_ns, row.session, values, number=row.number))

    def _heard_reset(self, heard: Any) -> None:
        try:
            session, seed = arm_topics.decode_reset(heard)
        except BadMessage as error:
            self._put(BadMail(str(error)))
            return
        self._put(ResetMail(session, seed, decode_header(heard)[0]))

    # Plumbing

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _absolute(self, topic: Topic) -> str:
        return absolute(self.settings.namespace, topic.name)

    def _publisher(self, topic: Topic) -> Any:
        return self.create_publisher(topic.message(), self._absolute(topic), topic.qos())

    def _stream_publishers(self) -> dict[str, _StreamOut]:
        found = {}
        for name, spec in self._driver.spec.observations.items():
            topic = arm_topics.stream_topic(name, spec, lockstep=self.settings.lockstep)
            found[name] = _StreamOut(topic, spec.names, self._publisher(topic))
        return found

    def _diagnose(self) -> None:
        """Publishes how the arm does."""
        timing, counters, mode = self._stream.deadlines.report(), self._loop.counters, self._told
        values = {
            "rate [Hz]": f"{timing.ticks / DIAGNOSTICS_S:.1f}",
            "ticks missed in the last second": str(timing.missed),
            "lateness p50 [us]": f"{timing.late_p50_us:.0f}",
            "lateness p99 [us]": f"{timing.late_p99_us:.0f}",
            "lateness max [us]": f"{timing.late_max_us:.0f}",
            "rows": str(counters.rows),
            "commands": str(counters.commands),
            "ticks without a row": str(counters.dry),
            "observations missing": str(counters.stale),
            "samples that cannot be true": str(counters.rejected),
            "commands that waited for the arm": str(counters.waits),
            "stalls of the stream": str(counters.stalls),
            "mail lost": str(self._mailbox.lost),
        }
        for what, counter in (("filter", counters.reasons), ("refused", counters.refused), ("latched", counters.stops)):
            values |= {f"{what}: {name}": str(count) for name, count in dict(counter).items()}
        status = message("diagnostic_msgs/msg/DiagnosticStatus")
        pair = message("diagnostic_msgs/msg/KeyValue")
        line = status(
            level=_level(status, mode.mode, timing.missed),
            name=f"arm: {self.settings.namespace}",
            message=f"{mode.mode}: {mode.reason}",
            hardware_id=self._driver.spec.name,
            values=[pair(key=key, value=value) for key, value in values.items()],
        )
        topic = arm_topics.DIAGNOSTICS
        header = arm_topics.encode_header(self._now_ns(), "")
        self._outgoing[topic].publish(topic.message()(header=header, status=[line]))


def _level(status: Any, mode: Mode, missed: int) -> Any:
    if mode in LATCHED:
        return status.ERROR
    return status.WARN if missed else status.OK


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is told to end; returns the process's exit status."""
    require_ros()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    told_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told_to_end.set())
    # rclpy's own handlers would end the graph before the arm is at rest.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node: ArmNode | None = None
    executor = SingleThreadedExecutor()
    hearing = SpinningThread(executor, "the arm node")
    try:
        node = ArmNode()
        node.start()
        executor.add_node(node)
        hearing.start()
        while not told_to_end.wait(WATCH_S):
            node.require_alive()
            hearing.require_alive()
    except RobotRLError as error:
        sys.stderr.write(f"arm_node: {error}\n")
        return 1
    finally:
        if node is not None:
            node.end()
        hearing.end()
        if node is not None:
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
