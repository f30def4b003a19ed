"""A `Robot` seen through topics: an arm whose node or vendor's driver runs already, here or on another computer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from hardware.ros.arm_session import ArmSession, ArmSessionSettings
from hardware.ros.background_node import BackgroundNode
from hardware.ros.network import join
from hardware.ros.robot_config import RobotConfig
from hardware.ros.stream_reader import StreamReader
from hardware.ros.tick_clock import TickClock
from hardware.ros.topic_checks import Wanted, missing_publishers, why_silent
from hardware.ros.vendor_commands import VendorCommands
from hardware.safety.limits import CommandLimits
from hardware.sync import align
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import AnyArray, FloatArray

POLL_S = 0.02
LOCKSTEP_S = 2.0
"""How long what a simulator shows of the last row is waited for."""


class CannotConnect(RobotRLError):
    """What the robot needs is not on the network; every missing piece has a line."""


class Commands(Protocol):
    """How rows reach the arm: `ArmSession` or `VendorCommands`."""

    @property
    def lockstep(self) -> bool:
        """Whether time stands still between rows."""

    @property
    def stamp_ns(self) -> int:
        """In lockstep the stamp of the last row or reset, which what the streams show of it has too [ns]."""

    def connect(self, link: BackgroundNode) -> None:
        """Makes publishers and subscriptions on a node."""

    def problems(self) -> list[str]:
        """What is not there yet, in words."""

    def connected(self) -> None:
        """Called once when everything is there."""

    def reset(self, seed: int) -> None:
        """Begins an episode."""

    def check(self) -> None:
        """Called with every observation; raises if the arm is no longer the caller's."""

    def send(self, row: FloatArray, tick_ns: int) -> FloatArray:
        """Sends a row for a tick on the robot's clock and returns what the arm does with it. Shapes (A,), float64."""

    def stop(self) -> None:
        """Brings the arm to rest."""

    def disconnect(self) -> None:
        """Forgets the node."""


class RosRobot:
    """An arm behind ROS 2 topics as a `Robot`. See `configs/robot/ros/` for examples of every argument.

    Samples are stamped at capture and wait in ring buffers, filled by a thread of its own; `observe` aligns them at the
    tick. Ticks may be told on the machine's monotonic clock or on the robot's. In lockstep time stands still between
    rows, so ticks may be on any clock, and what is shown is of the last row and of age 0.

    Args:
        name: Of the embodiment, the same for one robot in process and through ROS.
        namespace: Where relative topics live.
        control_hz: Ticks per second.
        streams: Stream name to its settings, see `StreamConfig`.
        action: names, unit, kinds, low, high, dtype.
        command: adapter and its settings.
        gripper: See `hardware/ros/gripper.py`; none with adapter `arm_node`.
        status: Condition name to its settings, see `StatusCondition`; none with adapter `arm_node`.
        connect_s: How long everything may take to appear [s].
        interface: Over which network, see `hardware.ros.network.join`; None keeps to this computer.

    Raises:
        RobotRLError: There is no such interface here.
        RobotYamlError: The settings describe no robot; nothing was connected.
    """

    judged = False
    """Whether a judgement belongs to every row; see `JudgedRosRobot`."""

    def __init__(
        self,
        name: str,
        namespace: str,
        control_hz: float,
        streams: Mapping[str, Any],
        action: Mapping[str, Any],
        command: Mapping[str, Any],
        gripper: Mapping[str, Any] | None = None,
        status: Mapping[str, Any] | None = None,
        connect_s: float = 5.0,
        interface: str | None = None,
    ) -> None:
        self.config = RobotConfig.parse(name, namespace, control_hz, streams, action, command, gripper, status)
        self.spec = self.config.spec
        join(interface)  # before the first node of this process, which may be a leader arm's, makes it final
        self.connect_s = connect_s
        self._news = threading.Condition()
        self._commands = self._make_commands()
        self._readers: dict[str, StreamReader] = {}
        self._subscriptions: dict[str, Any] = {}
        self._ticks = TickClock(self._now_ns)
        self._link: BackgroundNode | None = None
        self._tick_ns = 0
        self._entered = ExitStack()

    @property
    def watched(self) -> bool:
        """Whether an arm node stands between it and its driver."""
        return self.config.adapter == "arm_node"

    @property
    def simulated_time(self) -> bool:
        """Whether time stands still between rows: only in lockstep."""
        return self._commands.lockstep

    @property
    def counters(self) -> dict[str, int]:
        """What went wrong without ending anything, by name."""
        counts = {f"{name}_refused": reader.refused for name, reader in self._readers.items()}
        counts |= {f"{name}_implausible": reader.implausible for name, reader in self._readers.items()}
        counts |= {f"{name}_late": reader.late for name, reader in self._readers.items()}
        counts |= {f"{name}_clock_jumps": reader.ring.clock_jumps for name, reader in self._readers.items()}
        if isinstance(self._commands, ArmSession):
            counts["unacknowledged"] = self._commands.unacknowledged
        return counts | {"clock_jumps": self._ticks.jumps}

    def _make_commands(self) -> Commands:
        if self.config.adapter == "arm_node":
            return ArmSession(self.config, ArmSessionSettings.parse(self.config), self._news, self.judged)
        return VendorCommands(self.config, self._newest)

    def __enter__(self) -> Self:
        """Connects; returns when every stream is fresh and every command has its listener.

        Raises:
            CannotConnect: Names everything that is missing, and what is there instead. Nothing has moved.
        """
        with ExitStack() as stack:
            link = stack.enter_context(BackgroundNode(f"robot_rl_{self.spec.name}_{os.getpid()}_{id(self) % 10**6}"))
            self._link = link
            stack.callback(self._disconnect)
            self._subscribe(link)
            self._commands.connect(link)
            link.spin()
            self._await_everything()
            self._commands.connected()
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops and disconnects."""
        with self._entered:
            self.stop()

    def _disconnect(self) -> None:
        self._commands.disconnect()
        self._link = None

    def reset(self, seed: int) -> None:
        """Begins an episode; returns when what every stream shows is of it.

        Raises:
            RobotRLError: The arm may not be moved; says why.
        """
        link = self._require_link()
        self._ticks.restart()
        self._reset_arm(seed)
        self._tick_ns = link.now_ns()
        self._await_streams(self._commands.stamp_ns if self._commands.lockstep else self._tick_ns, self.connect_s)

    def _reset_arm(self, seed: int) -> None:
        """Has the arm brought to its start; one behind an arm node may be simulated and be there at once."""
        jumps = isinstance(self._commands, ArmSession) and not self._commands.lockstep
        if not jumps:
            self._commands.reset(seed)
            return
        for reader in self._readers.values():
            reader.let_jump(True)
        try:
            self._commands.reset(seed)
        finally:
            now_ns = self._now_ns()
            for reader in self._readers.values():
                reader.forget(before_ns=now_ns)

    def keep_alive(self) -> None:
        """The session's heartbeat, which an arm node wants."""
        if isinstance(self._commands, ArmSession):
            self._commands.beat()

    def observe(self, tick_ns: int) -> Observation:
        """The newest sample of every stream that was captured no later than the tick.

        Raises:
            StaleSensor: A stream is too old, or the arm node answers no more.
            RobotRLError: The arm was stopped, disabled or taken over; says why.
        """
        link = self._require_link()
        link.require_alive()
        self._commands.check()
        if self._commands.lockstep:
            self._await_streams(self._commands.stamp_ns, LOCKSTEP_S)
            values = {name: np.array(value) for name, value in self._newest().items()}
            return Observation(tick_ns, values, dict.fromkeys(values, 0))
        robot_ns, jumped = self._ticks.robot_ns(tick_ns)
        self._tick_ns = robot_ns
        if jumped:
            link.node.get_logger().warning("the robot's clock jumped: what was seen before it is forgotten")
            for reader in self._readers.values():
                reader.forget()
        seen = self._seen_at(robot_ns)
        # Copies: the rings keep their samples for the next tick.
        return Observation(tick_ns, {name: np.array(value) for name, value in seen.values.items()}, seen.age_ns)

    def _seen_at(self, robot_ns: int) -> Observation:
        """What every stream shows.

        Raises:
            StaleSensor: A stream has nothing fresh; says also what was wrong with what came last.
        """
        faults = [f"{reader.topic}: {reader.fault}" for reader in self._readers.values() if reader.fault]
        if faults:
            raise StaleSensor("\n".join(faults))
        try:
            return align({name: reader.ring for name, reader in self._readers.items()}, robot_ns)
        except StaleSensor as error:
            refused = [f"{reader.topic}: {reader.problem}" for reader in self._readers.values() if reader.problem]
            raise StaleSensor("\n".join([str(error), *refused])) from error

    def apply(self, action: FloatArray) -> FloatArray:
        """What the arm node acknowledged, or what the vendor's driver was sent.

        Raises:
            RobotRLError: The action is unusable, or the arm may not be moved; says why.
        """
        link = self._require_link()
        link.require_alive()
        row = np.asarray(action, dtype=self.spec.action.dtype)
        problem = self.spec.action.problem_with(row)
        if problem:
            raise RobotRLError(f"robot '{self.spec.name}' cannot execute the action: {problem}")
        applied = self._commands.send(row.astype(np.float64), self._tick_ns)
        low, high = self.spec.action.bounds()
        # A float64 on the wire may round to just outside a float32's bounds.
        return np.clip(applied, low, high).astype(self.spec.action.dtype)

    def ahead(self) -> FloatArray:
        """How far a vendor's driver's target is ahead, shape (A,); NaN behind an arm node, which watches its own."""
        if isinstance(self._commands, VendorCommands):
            return self._commands.ahead()
        return np.full(self.spec.action.shape, np.nan)

    def keep_within(self, limits: CommandLimits) -> None:
        """Takes the limits that a vendor's driver keeps for what it adds up; an arm node has its own."""
        if isinstance(self._commands, VendorCommands):
            self._commands.keep_within(limits)

    def stop(self) -> None:
        """Brings the arm to rest and takes motion away; safe at any time."""
        if self._link is not None:
            self._commands.stop()

    def _subscribe(self, link: BackgroundNode) -> None:
        from hardware.ros import client

        reliable = self._commands.lockstep
        for stream in self.config.streams.values():
            reader = StreamReader(stream, self.config.topic(stream.topic), self._news, checked=not reliable)
            self._readers[stream.name] = reader
            qos = client.QoSProfile(
                history=client.HistoryPolicy.KEEP_LAST,
                depth=1 if stream.is_image else 5,
                reliability=client.ReliabilityPolicy.RELIABLE if reliable else client.ReliabilityPolicy.BEST_EFFORT,
            )
            kind = client.message(stream.message_type)
            self._subscriptions[stream.name] = link.node.create_subscription(kind, reader.topic, reader.take, qos)

    def _await_everything(self) -> None:
        """Waits until nothing is missing any more."""
        until_s = time.monotonic() + self.connect_s
        while True:
            problems = self._problems()
            if not problems:
                return
            if time.monotonic() > until_s:
                raise CannotConnect(
                    f"robot '{self.spec.name}' cannot be used; after {self.connect_s:g} s:\n  " + "\n  ".join(problems)
                )
            time.sleep(POLL_S)

    def _problems(self) -> list[str]:
        link = self._require_link()
        link.require_alive()
        found = []
        for name, reader in self._readers.items():
            stream, where = reader.stream, f"robot.streams.{name}"
            reliable = self._commands.lockstep
            wanted = Wanted(where, reader.topic, stream.message_type, reliable, most=stream.publishers)
            problem = missing_publishers(link.node, wanted)
            if problem is None and not self._commands.lockstep:
                doubt = reader.doubt(link.now_ns())
                if reader.newest is None and reader.problem is None:
                    doubt = why_silent(self._subscriptions[name], is_image=stream.is_image)
                problem = f"{where} ({reader.topic}): {doubt}" if doubt else None
            found.append(problem)
        return [*(each for each in found if each), *self._commands.problems()]

    def _await_streams(self, since_ns: int, timeout_s: float) -> None:
        """Waits for a sample of every stream that is not from before a moment; in lockstep, of exactly that moment.

        Raises:
            StaleSensor: Names the streams that have none.
        """
        with self._news:
            before = {name: reader.newest for name, reader in self._readers.items()}
            self._news.wait_for(lambda: not self._behind(since_ns), timeout_s)
        behind = self._behind(since_ns)
        if behind:
            reader = behind[0]
            why = reader.problem or self._why_behind(reader, before[reader.stream.name], since_ns)
            raise StaleSensor(f"{reader.stream.name} ({reader.topic}) shows nothing of the last {timeout_s:g} s: {why}")

    def _why_behind(self, reader: StreamReader, before: tuple[int, AnyArray] | None, since_ns: int) -> str:
        """Whether nothing comes, or what comes is stamped earlier than it was waited for."""
        newest = reader.newest
        if newest is None or newest is before:
            return why_silent(self._subscriptions[reader.stream.name], is_image=reader.stream.is_image)
        late_ms = (since_ns - newest[0]) / 1e6
        return f"it goes on, stamped {late_ms:.0f} ms before; compare the clocks of both computers (chrony)"

    def _behind(self, since_ns: int) -> list[StreamReader]:
        exactly = self._commands.lockstep
        return [reader for reader in self._readers.values() if not reader.shows(since_ns, exactly=exactly)]

    def _newest(self) -> dict[str, AnyArray]:
        """The newest sample of every stream."""
        values = {name: reader.newest for name, reader in self._readers.items()}
        missing = [name for name, each in values.items() if each is None]
        if missing:
            raise StaleSensor(f"{', '.join(missing)} has shown nothing yet: check that it is published")
        return {name: each[1] for name, each in values.items() if each is not None}

    def _now_ns(self) -> int:
        return self._require_link().now_ns()

    def _require_link(self) -> BackgroundNode:
        if self._link is None:
            raise RobotRLError(f"robot '{self.spec.name}' is not connected: use it in a with statement")
        return self._link


class JudgedRosRobot(RosRobot):
    """A robot whose arm node's driver judges, as simulated ones do: it is its own `Judge`."""

    judged = True

    def judge(self) -> Judgement:
        """The driver's judgement of the state that the last row led to."""
        assert isinstance(self._commands, ArmSession)
        return self._commands.judgement
