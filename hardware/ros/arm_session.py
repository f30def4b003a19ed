"""One session's side of an arm node: enabling, heartbeat, rows out, acknowledgements in.

Everything waits in the caller's thread and nothing beats but the caller's own loop: a loop that hangs must lose its
heartbeat. The session never enables an arm that somebody else has disabled or stopped. It numbers what it says, so that
the arm node notices another who speaks under its name.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.arm.messages import ArmMode, Row
from hardware.arm.state import LATCHED, Mode
from hardware.ros import arm_topics
from hardware.ros.arm_topics import BadMessage, Topic, absolute
from hardware.ros.background_node import BackgroundNode
from hardware.ros.robot_config import RobotConfig
from hardware.ros.topic_checks import Wanted, missing_publishers, missing_subscribers
from hardware.ros.yaml_section import RobotYamlError
from robot_rl.core import section
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judgement
from robot_rl.core.section import NotNegative
from robot_rl.core.specs import NS_PER_S, ArraySpec, FloatArray, RobotSpec

HEARTBEAT_S = 0.05
LOCKSTEP_S = 2.0
"""Longest step of a simulator that is waited for."""
ENABLE_S = 5.0
RESET_S = 30.0
"""A driver may drive its arm home."""
STOP_S = 1.0
WAIT_S = 0.02
ACK_SHARE = 0.6
"""Of a tick that a row waits for its acknowledgement: one that is lost must not cost the next tick its row, after which
a watchdog of two ticks would stop the arm."""


class ArmRefused(RobotRLError):
    """The arm node does not let this session move the arm."""


@dataclass(frozen=True)
class ArmSessionSettings:
    """A yaml's `robot.command` of adapter `arm_node`.

    Attributes:
        lockstep: Time stands still between commands, as in a simulator; must be what the arm node says.
        ack_timeout_s: How long a row waits for its acknowledgement [s]; None is `ACK_SHARE` of a tick.
        silent_s: Without any acknowledgement for longer, the arm node counts as gone [s].
    """

    lockstep: bool = False
    ack_timeout_s: NotNegative | None = None
    silent_s: NotNegative = 0.2

    @classmethod
    def parse(cls, config: RobotConfig) -> ArmSessionSettings:
        """From a robot's settings.

        Raises:
            RobotYamlError: Names the key.
        """
        for name in ("gripper", "status"):
            if getattr(config, name):
                raise RobotYamlError(
                    f"robot.{name} does not go with adapter 'arm_node': write it into arm.driver, which moves it"
                )
        settings = {key: value for key, value in config.command.items() if key != "adapter"}
        return section.read(cls, settings, "robot.command", RobotYamlError, of=" with adapter 'arm_node'")


class ArmSession:
    """What `RosRobot` says to an arm node. See the module.

    Args:
        config: The robot's.
        options: How long it waits, and whether time does.
        news: Notified with every message; shared with the streams' readers.
        judged: Whether the arm node's driver judges, so that a judgement belongs to every row.

    Attributes:
        session: Its id, new for every connection.
        unacknowledged: Rows that got no acknowledgement in time.
        judgement: The newest.
    """

    def __init__(
        self, config: RobotConfig, options: ArmSessionSettings, news: threading.Condition, judged: bool
    ) -> None:
        self.options = options
        self.session = ""
        self.unacknowledged = 0
        self.judgement = Judgement(reward=0.0, success=False, done=False)
        self._config = config
        self._names = arm_topics.action_names(config.spec)
        self._news = news
        self._judged = judged
        self._link: BackgroundNode | None = None
        self._publishers: dict[Topic, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._mode: ArmMode | None = None
        self._applied: Row | None = None
        self._judged_ns = 0
        self._enabled = False
        self._last_row: FloatArray | None = None
        self._stamp_ns = self._beats = self._rows = 0
        self._beaten_s = self._silent_since_s = 0.0
        self.judgement = Judgement(reward=0.0, success=False, done=False)

    @property
    def lockstep(self) -> bool:
        """Whether time stands still between rows."""
        return self.options.lockstep

    @property
    def stamp_ns(self) -> int:
        """Stamp of the last row or reset; in lockstep, what the streams show of it has the same [ns]."""
        return self._stamp_ns

    def connect(self, link: BackgroundNode) -> None:
        """Makes publishers and subscriptions on a node."""
        self._forget()
        self._link, self.session = link, f"{self._config.spec.name}_{secrets.token_hex(4)}"
        for topic in (arm_topics.COMMAND, arm_topics.ENABLE, arm_topics.DEADMAN, arm_topics.RESET):
            self._publishers[topic] = link.node.create_publisher(topic.message(), self._full(topic), topic.qos())
        takers: list[tuple[Topic, Callable[[Any], None]]] = [
            (arm_topics.MODE, self._take_mode),
            (arm_topics.APPLIED, self._take_applied),
        ]
        if self._judged:
            takers.append((arm_topics.JUDGEMENT, self._take_judgement))
        for topic, take in takers:
            link.node.create_subscription(topic.message(), self._full(topic), take, topic.qos())

    def problems(self) -> list[str]:
        """What is not there yet, in words."""
        node = self._node().node
        outgoing = (arm_topics.COMMAND, arm_topics.ENABLE, arm_topics.RESET)
        incoming = (arm_topics.MODE, arm_topics.APPLIED, *((arm_topics.JUDGEMENT,) if self._judged else ()))
        found = [missing_subscribers(node, self._wanted(topic, most=0)) for topic in outgoing]
        found += [missing_publishers(node, self._wanted(topic)) for topic in incoming]
        problems = [each for each in found if each]
        if self._mode is None:
            problems.append(
                f"arm_node: {self._full(arm_topics.MODE)} has said nothing; is arm_node of {self._where} up?"
            )
        elif self._mode.lockstep is not self.lockstep:
            problems.append(f"arm_node: lockstep is {self._mode.lockstep} there, but robot.command has {self.lockstep}")
        elif self._mode.spec:
            problems += spec_problems(self._config.spec, self._mode.robot_spec())
        return problems

    def connected(self) -> None:
        """Nothing is left to wait for."""

    def reset(self, seed: int) -> None:
        """Asks for motion and begins an episode; returns when the arm node says that its driver was reset.

        Raises:
            ArmRefused: It is stopped, failed, or another session's; says what a person has to do.
        """
        self._enable()
        mode = self._require_mode()
        episode = mode.episode
        self._stamp_ns = max(self._node().now_ns(), self._stamp_ns + 1)
        self._publish(arm_topics.RESET, arm_topics.encode_reset(self._stamp_ns, self.session, seed))
        self._await(lambda now: now.episode > episode and now.session == self.session, RESET_S, f"reset to seed {seed}")
        self._last_row, self._silent_since_s = None, 0.0
        self.judgement = Judgement(reward=0.0, success=False, done=False)

    def beat(self) -> None:
        """A heartbeat, if one is due; called by the control loop."""
        now_s = time.monotonic()
        if self._enabled and now_s - self._beaten_s >= HEARTBEAT_S:
            self._beats += 1
            sender = arm_topics.numbered(self.session, self._beats)
            self._publish(arm_topics.DEADMAN, arm_topics.encode_header(self._node().now_ns(), sender))
            self._beaten_s = now_s

    def check(self) -> None:
        """Tells the control loop that the arm is no longer its own.

        Raises:
            ArmRefused: Stopped, failed, disabled or taken over; says why.
            StaleSensor: The arm node answers no more.
        """
        if self._enabled:
            self._require_mine(self._require_mode())
        silent_s = time.monotonic() - self._silent_since_s if self._silent_since_s else 0.0
        if silent_s > self.options.silent_s:
            raise StaleSensor(
                f"arm_node of {self._where} has acknowledged nothing for {1000 * silent_s:.0f} ms; is it running, and "
                "is the network there?"
            )

    def send(self, row: FloatArray, tick_ns: int) -> FloatArray:
        """Sends a row for a tick and returns what the arm will do; holding still if nobody says. Shapes (A,), float64.

        Rows are stamped with their ticks, not with when they happen to be sent: the arm node reckons speeds from the
        stamps. In lockstep they are a tick apart, however fast the simulator runs.
        """
        if not self._enabled:
            self._enable()
            self._take_lease()
        self.beat()
        self._require_mine(self._require_mode())
        due_ns = self._stamp_ns + self._config.spec.tick_ns if self.lockstep else tick_ns
        # Never a stamp twice: acknowledgements are told apart by it.
        self._stamp_ns = stamp_ns = max(due_ns, self._stamp_ns + 1)
        self._rows += 1
        self._publish(arm_topics.COMMAND, arm_topics.encode_row(stamp_ns, self.session, self._names, row, self._rows))
        timeout_s = LOCKSTEP_S if self.lockstep else self._ack_timeout_s
        with self._news:
            answered = self._news.wait_for(lambda: self._answered(stamp_ns), timeout_s)
            applied = self._applied
        if answered and applied is not None:
            self._last_row, self._silent_since_s = applied.values, 0.0
        else:
            self._miss(timeout_s)
        return self._config.spec.hold(row) if self._last_row is None else self._held(answered)

    def stop(self) -> None:
        """Takes motion away and waits, for a short time, until the arm node says so."""
        if self._link is None or not self._enabled:
            return
        self._publish(arm_topics.ENABLE, arm_topics.ENABLE.message()(data=False))
        self._enabled = False
        self._silent_since_s = 0.0
        with self._news:
            self._news.wait_for(lambda: self._mode is not None and self._mode.mode is not Mode.ACTIVE, STOP_S)

    def disconnect(self) -> None:
        """Forgets the node."""
        self._link = None
        self._publishers = {}

    @property
    def _ack_timeout_s(self) -> float:
        given = self.options.ack_timeout_s
        return ACK_SHARE / self._config.spec.control_hz if given is None else given

    @property
    def _where(self) -> str:
        return self._config.namespace

    def _full(self, topic: Topic) -> str:
        return absolute(self._config.namespace, topic.name)

    def _wanted(self, topic: Topic, most: int = 1) -> Wanted:
        return Wanted("arm_node", self._full(topic), topic.type_name, topic.reliable, topic.latched, most)

    def _node(self) -> BackgroundNode:
        if self._link is None:
            raise RobotRLError(f"robot '{self._config.spec.name}' is not connected: use it in a with statement")
        return self._link

    def _publish(self, topic: Topic, message: Any) -> None:
        self._node()
        self._publishers[topic].publish(message)

    def _enable(self) -> None:
        mode = self._require_mode()
        if mode.mode in LATCHED:
            raise ArmRefused(self._latched_words(mode))
        if mode.mode is Mode.ACTIVE and mode.session not in ("", self.session):
            raise ArmRefused(f"the arm at {self._where} is driven by session {mode.session}: end it first")
        self._publish(arm_topics.ENABLE, arm_topics.ENABLE.message()(data=True))
        self._await(lambda now: now.mode is Mode.ACTIVE, ENABLE_S, "enabling")
        self._enabled = True

    def _take_lease(self) -> None:
        """Beats until the arm node knows whose loop this is."""
        until_s = time.monotonic() + ENABLE_S
        while self._require_mode().session != self.session and time.monotonic() < until_s:
            self.beat()
            with self._news:
                self._news.wait(WAIT_S)
            self._require_mine(self._require_mode())

    def _await(self, condition: Callable[[ArmMode], bool], timeout_s: float, what: str) -> None:
        """Waits until the arm node's mode fulfils a condition."""
        before = self._require_mode().refusal

        def settled() -> bool:
            mode = self._mode
            return mode is not None and (condition(mode) or mode.mode in LATCHED or mode.refusal not in ("", before))

        until_s = time.monotonic() + timeout_s
        while not settled() and time.monotonic() < until_s:
            # Whoever waits is alive: an arm that its driver moves meanwhile must not outlive its session.
            self.beat()
            with self._news:
                self._news.wait_for(settled, WAIT_S)
        mode = self._require_mode()
        if condition(mode):
            return
        if mode.mode in LATCHED:
            raise ArmRefused(self._latched_words(mode))
        why = mode.refusal or f"no answer within {timeout_s:g} s"
        raise ArmRefused(f"{what} of the arm at {self._where} failed: {why} (it is {mode.mode}, {mode.reason})")

    def _require_mode(self) -> ArmMode:
        if self._mode is None:
            raise RobotRLError(f"arm_node of {self._where} has not been heard: enter the robot first")
        return self._mode

    def _require_mine(self, mode: ArmMode) -> None:
        if mode.mode in LATCHED:
            self._enabled = False
            raise ArmRefused(self._latched_words(mode))
        if mode.mode is not Mode.ACTIVE:
            self._enabled = False
            raise ArmRefused(f"the arm at {self._where} was disabled ({mode.reason}); start again when it may move")
        if mode.session not in ("", self.session):
            self._enabled = False
            raise ArmRefused(f"the arm at {self._where} was taken over by session {mode.session}")

    def _latched_words(self, mode: ArmMode) -> str:
        clear = absolute(self._config.namespace, arm_topics.CLEAR.name)
        return f"the arm at {self._where} is in mode {mode.mode}: {mode.reason}. Look at it, then clear it on {clear}"

    def _answered(self, stamp_ns: int) -> bool:
        acknowledged = self._applied is not None and self._applied.stamp_ns == stamp_ns
        return acknowledged and (not self._judged or self._judged_ns == stamp_ns)

    def _miss(self, timeout_s: float) -> None:
        self.unacknowledged += 1
        if not self._silent_since_s:
            self._silent_since_s = time.monotonic() - timeout_s

    def _held(self, answered: bool) -> FloatArray:
        assert self._last_row is not None
        return self._last_row.copy() if answered else self._config.spec.hold(self._last_row)

    def _take_mode(self, message: Any) -> None:
        try:
            mode = ArmMode.from_json(message.data)
        except BadMessage as error:
            self._node().node.get_logger().warning(str(error))
            return
        with self._news:
            self._mode = mode
            self._news.notify_all()

    def _take_applied(self, message: Any) -> None:
        try:
            row = arm_topics.decode_applied(message, self._names)
        except BadMessage as error:
            self._node().node.get_logger().warning(str(error))
            return
        if row.session != self.session:
            return
        with self._news:
            self._applied = row
            self._news.notify_all()

    def _take_judgement(self, message: Any) -> None:
        try:
            values = arm_topics.by_name("judgement", message.name, message.position, arm_topics.JUDGEMENT_NAMES)
        except BadMessage as error:
            self._node().node.get_logger().warning(str(error))
            return
        stamp = message.header.stamp
        with self._news:
            self._judged_ns = stamp.sec * NS_PER_S + stamp.nanosec
            self.judgement = Judgement(float(values[0]), bool(values[1]), bool(values[2]))
            self._news.notify_all()


def spec_problems(mine: RobotSpec, theirs: RobotSpec) -> list[str]:
    """Where a robot's yaml and its arm node's driver do not mean the same action or streams, in words."""
    shared = [name for name in mine.observations if name in theirs.observations]
    if _same_bounds(mine.action, theirs.action):
        action = dataclasses.replace(theirs.action, low=mine.action.low, high=mine.action.high)
        theirs = dataclasses.replace(theirs, action=action)
    return [f"arm_node's driver and this robot differ in {each}" for each in mine.select(shared).unmet_by(theirs)]


def _same_bounds(mine: ArraySpec, theirs: ArraySpec) -> bool:
    """Whether two actions have one range: a driver's displacements, converted from its own rate, are rounded."""
    return mine.shape == theirs.shape and all(
        np.allclose(one, other, rtol=1e-6, atol=0.0) for one, other in zip(mine.bounds(), theirs.bounds(), strict=True)
    )
