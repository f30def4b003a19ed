"""An observer beside an arm and its node, in none of the processes that fail: stamped joint states, modes, pictures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hardware.arm.messages import ArmMode
from hardware.arm.state import LATCHED, Mode
from hardware.ros import arm_topics
from hardware.ros.arm_topics import Topic, absolute
from hardware.ros.background_node import BackgroundNode
from hardware.ros.client import message, qos_profile_sensor_data
from robot_rl.core.specs import NS_PER_S

GIVE_UP_S = 30.0
STILL_RAD = 1e-3
"""The arm rests from when it is this near to where it ends."""
REST_S = 0.15
"""Without motion for so long, it has come to rest."""
BRAKING = 0.85
"""Of the speed before; from the last sample above it on, the arm brakes."""
SPEED_OVER_S = 0.03


class Motion(NamedTuple):
    """What the arm did around a fault; times since it [ms, s], None where it did not happen.

    Attributes:
        said_ms: Until the arm node said that it is not active any more.
        braked_ms: Until the arm began to brake for good.
        rest_s: Until it rested.
        moved_rad: How far the joint that moved most went.
    """

    said_ms: float | None
    braked_ms: float | None
    rest_s: float
    moved_rad: float

    @property
    def detected_ms(self) -> float | None:
        """When something was done about it: the arm braked or the node said so, whichever was first."""
        known = [each for each in (self.said_ms, self.braked_ms) if each is not None]
        return min(known) if known else None


class Observer:
    """Hears the arm and its node from outside. A context manager.

    Args:
        namespace: Of the arm node.
        joint_states: Topic; the arm node's own if empty.
        image: Topic of a camera, to know whether it works.

    Attributes:
        modes: What the arm node said, each with when it came, monotonic [ns].
        commands: Session to the rows that were heard.
        pictures: The newest, each with when it came.
        diagnostics: What the arm node said of itself once a second.
    """

    def __init__(self, namespace: str, joint_states: str = "", image: str = "") -> None:
        self._namespace, self._image = namespace, image
        self._joint_states = joint_states or absolute(namespace, "joint_states")
        self.modes: list[tuple[int, ArmMode]] = []
        self.commands: Counter[str] = Counter()
        self.pictures: list[tuple[int, Any]] = []
        self.diagnostics: list[dict[str, str]] = []
        self._stamps_ns: list[int] = []
        self._places: list[Sequence[float]] = []
        self._news = threading.Condition()
        self._link = BackgroundNode("observer")
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __enter__(self) -> Self:
        node = self._link.__enter__().node
        best_effort = arm_topics.COMMAND._replace(reliable=False)
        topics: list[tuple[Topic, Callable[[Any], None]]] = [
            (Topic(self._joint_states, "sensor_msgs/msg/JointState", reliable=False, depth=50), self._take_joints),
            (arm_topics.MODE, self._take_mode),
            (best_effort, self._take_command),
            (arm_topics.DIAGNOSTICS, self._take_diagnostics),
        ]
        for topic, take in topics:
            name = absolute(self._namespace, topic.name)
            node.create_subscription(topic.message(), name, self._noting(take), topic.qos())
        if self._image:
            kind = message("sensor_msgs/msg/CompressedImage")
            node.create_subscription(kind, self._image, self._noting(self._take_picture), qos_profile_sensor_data)
        self._publishers = {
            topic: node.create_publisher(topic.message(), absolute(self._namespace, topic.name), topic.qos())
            for topic in (arm_topics.CLEAR, arm_topics.ENABLE, arm_topics.STOP)
        }
        self._link.spin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.__exit__(kind, error, trace)

    def _noting(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def taken(heard: Any) -> None:
            with self._news:
                take(heard)
                self._news.notify_all()

        return taken

    def _take_joints(self, heard: Any) -> None:
        self._stamps_ns.append(arm_topics.decode_header(heard.header)[0] - self._offset_ns)
        self._places.append(heard.position[:6])

    def _take_mode(self, heard: Any) -> None:
        self.modes.append((time.monotonic_ns(), ArmMode.from_json(heard.data)))

    def _take_command(self, heard: Any) -> None:
        self.commands[heard.header.frame_id] += 1

    def _take_diagnostics(self, heard: Any) -> None:
        for status in heard.status:
            if status.name.startswith("arm:"):
                self.diagnostics.append({each.key: each.value for each in status.values})

    def _take_picture(self, heard: Any) -> None:
        self.pictures.append((time.monotonic_ns(), heard))
        del self.pictures[:-60]

    @property
    def mode(self) -> ArmMode:
        """The newest."""
        return self.modes[-1][1]

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float = GIVE_UP_S) -> None:
        """Waits until something is so.

        Raises:
            TimeoutError: It never was.
        """
        with self._news:
            if not self._news.wait_for(lambda: bool(condition()), timeout_s):
                last = [f"{each.mode}: {each.reason}" for _, each in self.modes[-3:]]
                raise TimeoutError(f"never saw {what} in {timeout_s:g} s; last modes {last}")

    def wait_camera(self, after_ns: int) -> None:
        """Waits for a picture that came later than a moment."""
        self.wait_for("a picture", lambda: self.pictures and self.pictures[-1][0] > after_ns)

    def forget(self) -> None:
        """Only what comes from now on counts."""
        with self._news:
            del self._stamps_ns[:], self._places[:]
            del self.modes[:-1]

    def path(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Times, monotonic [ns], shape (N,), and places [rad], shape (N, 6), since `forget`."""
        with self._news:
            return np.array(self._stamps_ns, dtype=np.int64), np.array(self._places, dtype=np.float64).reshape(-1, 6)

    def moved(self, least_rad: float) -> bool:
        """Whether the first joint has gone so far from where it was at the first sample since `forget`."""
        return bool(self._places) and abs(self._places[-1][0] - self._places[0][0]) > least_rad

    def wait_rest(self, timeout_s: float = 10.0) -> None:
        """Waits until nothing has moved for `REST_S`."""

        def still() -> bool:
            if len(self._stamps_ns) < 2:
                return False
            first = int(np.searchsorted(self._stamps_ns, self._stamps_ns[-1] - round(REST_S * NS_PER_S)))
            span = np.ptp(np.array(self._places[first:], dtype=np.float64), axis=0).max()
            return first > 0 and float(span) < STILL_RAD / 10

        self.wait_for("rest", still, timeout_s)

    def motion_after(self, fault_ns: int) -> Motion:
        """What the arm did after a moment [monotonic ns]; call it once the arm rests."""
        stamps_ns, places = self.path()
        said = [at_ns for at_ns, mode in self.modes if at_ns >= fault_ns and mode.mode is not Mode.ACTIVE]
        at_fault = np.array([np.interp(fault_ns, stamps_ns, column) for column in places.T])
        gaps = np.abs(places - places[-1]).max(axis=1)
        moving = np.flatnonzero((gaps > STILL_RAD) & (stamps_ns > fault_ns))
        rest_s = (int(stamps_ns[moving[-1]]) - fault_ns) / NS_PER_S if len(moving) else 0.0
        braked_ns = braking_since(stamps_ns, places[:, 0], fault_ns)
        return Motion(
            (said[0] - fault_ns) / 1e6 if said else None,
            None if braked_ns is None else max(0.0, (braked_ns - fault_ns) / 1e6),
            rest_s,
            float(np.abs(places[-1] - at_fault).max()),
        )

    # Asking

    def clear(self) -> None:
        """A person clears."""
        self._publishers[arm_topics.CLEAR].publish(arm_topics.CLEAR.message()(data="observer"))

    def enable(self) -> None:
        """Somebody asks for motion."""
        self._publishers[arm_topics.ENABLE].publish(arm_topics.ENABLE.message()(data=True))

    def press_stop(self) -> int:
        """A person presses the stop; returns when, monotonic [ns]."""
        now_ns = time.monotonic_ns()
        self._publishers[arm_topics.STOP].publish(arm_topics.STOP.message()(data=True))
        return now_ns

    def recover(self) -> bool:
        """Whether a latched stop outlasts a request for motion, and ends when it is cleared."""
        if self.mode.mode in LATCHED:
            self.enable()
            self.wait_for("a refusal", lambda: "cannot enable" in self.mode.refusal or self.mode.mode not in LATCHED)
            if self.mode.mode not in LATCHED:
                return False
            self.clear()
            self.wait_for("clearing", lambda: self.mode.mode is Mode.INACTIVE)
        return self.mode.mode is Mode.INACTIVE


def braking_since(stamps_ns: npt.NDArray[np.int64], place: npt.NDArray[np.float64], fault_ns: int) -> int | None:
    """When a joint that moved evenly until a fault began to brake for good [monotonic ns]; None if it never did."""
    window_ns = round(SPEED_OVER_S * NS_PER_S)
    before = np.maximum(np.searchsorted(stamps_ns, stamps_ns - window_ns, side="right") - 1, 0)
    elapsed_s = np.maximum(stamps_ns - stamps_ns[before], 1) / NS_PER_S
    speed = np.abs(place - place[before]) / elapsed_s
    earlier = (stamps_ns <= fault_ns) & (stamps_ns > fault_ns - 5 * window_ns)
    fast = np.flatnonzero(speed >= BRAKING * np.median(speed[earlier])) if earlier.any() else np.array([], dtype=int)
    if not len(fast) or fast[-1] == len(speed) - 1:
        return None
    return int(stamps_ns[fast[-1]] - window_ns // 2)
