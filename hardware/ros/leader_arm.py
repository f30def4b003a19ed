"""A leader arm whose driver publishes joint states: the operator of `configs/operator/leader_arm.yaml`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from hardware.operators.leader.following import LeaderFollowing, LeaderLayout
from hardware.operators.leader.operator import LeaderArmOperator, LeaderReading
from hardware.operators.leader.watch import LeaderWatch
from hardware.operators.terminal.key_events import KeyEvents
from hardware.operators.terminal.raw_terminal import RawTerminal
from hardware.ros.background_node import BackgroundNode
from hardware.ros.stream_reader import StreamReader
from hardware.ros.streams import StreamConfig
from hardware.ros.topic_checks import Wanted, missing_publishers
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec

WAIT_S = 0.02
SETTING = "operator.topic"


class LeaderMissing(RobotRLError):
    """No leader arm can be heard."""


class LeaderTopic:
    """A leader arm heard on a topic of JointState; a context manager that joins the graph while entered.

    Args:
        topic: Full name.
        joints: Those that are needed, as the leader's driver names them.
        max_age_s: Oldest state still safe to follow [s].
        connect_s: How long the leader may take to appear [s].
        bound: `max_speed` and `margin` of its joints, see `ArraySpec`; a state beyond them is not followed, and after
            several the leader is lost.

    Raises:
        RobotYamlError: The settings make no sense.
    """

    def __init__(
        self, topic: str, joints: Sequence[str], max_age_s: float, connect_s: float, bound: Mapping[str, Any]
    ) -> None:
        stream = {"kind": "joints", "topic": topic, "joints": list(joints), "max_age_s": max_age_s, "dtype": "float64"}
        stream |= bound
        self.name = f"leader arm on {topic}"
        self._connect_s = connect_s
        self._news = threading.Condition()
        self._reader = StreamReader(StreamConfig.parse("leader", stream, "operator"), topic, self._news)
        self._link: BackgroundNode | None = None
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        """Joins the graph; returns when the leader is heard.

        Raises:
            LeaderMissing: Says what is there instead.
        """
        from hardware.ros import client

        with ExitStack() as stack:
            self._link = stack.enter_context(BackgroundNode(f"robot_rl_leader_{os.getpid()}"))
            qos = client.QoSProfile(
                history=client.HistoryPolicy.KEEP_LAST, depth=5, reliability=client.ReliabilityPolicy.BEST_EFFORT
            )
            message = client.message(self._reader.stream.message_type)
            self._link.node.create_subscription(message, self._reader.topic, self._reader.take, qos)
            self._link.spin()
            self._await_leader()
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the graph."""
        self._link = None
        self._entered.close()

    @property
    def implausible(self) -> int:
        """States that no hand could have brought about; none was followed."""
        return self._reader.implausible

    def reading(self) -> LeaderReading:
        """Where the leader's joints are now, or why it cannot be followed."""
        problem = self._problem(self._reader.lost)
        newest = self._reader.newest
        if problem is not None or newest is None:
            return LeaderReading({}, f"cannot be followed: {self._reader.topic}: {problem}")
        stamp, positions = newest
        return LeaderReading(dict(zip(self._reader.stream.joints, positions.tolist(), strict=True)), "", stamp)

    def _problem(self, judged: Callable[[int], str | None]) -> str | None:
        link = self._link
        if link is None:
            return "not connected"
        if link.failure is not None:
            return f"its node failed: {link.failure!r}; start the command again"
        return judged(link.now_ns())

    def _await_leader(self) -> None:
        assert self._link is not None
        stream = self._reader.stream
        wanted = Wanted(SETTING, self._reader.topic, stream.message_type)
        until_s = time.monotonic() + self._connect_s
        while True:
            problem = missing_publishers(self._link.node, wanted) or self._problem(self._reader.doubt)
            if problem is None:
                return
            if time.monotonic() > until_s:
                raise LeaderMissing(f"no leader arm after {self._connect_s:g} s: {problem}")
            with self._news:
                self._news.wait(WAIT_S)


def leader_arm_operator(
    spec: RobotSpec,
    layouts: Mapping[str, Any],
    topic: str,
    align_within: float = 0.1,
    ramp_s: float = 0.4,
    max_age_s: float = 0.1,
    connect_s: float = 5.0,
    name: str = "leader_arm",
    correcting: bool = False,
    max_speed: float | Sequence[float] | None = None,
    margin: float | Sequence[float] | None = None,
) -> LeaderArmOperator:
    """An operator with a leader arm and the keyboard.

    Args:
        spec: The robot's, whose action must be positions.
        layouts: Robot name to what follows which joint; see `LeaderLayout.for_spec`.
        topic: Full name of the leader's joint states.
        align_within: Largest difference between leader and follower at which control may be taken over, action units.
        ramp_s: Over which the difference that remains is taken back [s].
        max_age_s: Oldest state of the leader still safe to follow [s].
        connect_s: How long the leader may take to appear [s].
        name: Who drives; recorded with every episode.
        correcting: Whether a policy drives until the operator takes over.
        max_speed: Faster than a person moves any of its joints, one number or one per joint of the layout, in their
            order [1/s].
        margin: By how much two states may differ beyond that, likewise.

    Raises:
        LayoutError: The layout does not fit the robot.
        RobotYamlError: A setting is missing or makes no sense.
    """
    layout = LeaderLayout.for_spec(spec, layouts)
    following = LeaderFollowing(spec, layout, align_within, ramp_s)
    leader = LeaderTopic(topic, layout.joints, max_age_s, connect_s, {"max_speed": max_speed, "margin": margin})
    watch = LeaderWatch(layout.joints, max_speed, margin)
    return LeaderArmOperator(spec, leader, following, KeyEvents(RawTerminal()), watch, name, correcting)
