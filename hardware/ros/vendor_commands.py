"""Commands straight to a vendor's driver: adapter, gripper, and the driver's own word on whether it may be moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hardware.ros.background_node import BackgroundNode
from hardware.ros.command_adapters import Messages
from hardware.ros.command_settings import make_adapter, picked
from hardware.ros.gripper import ActionGripper, GripperConfig
from hardware.ros.robot_config import RobotConfig
from hardware.ros.status import StatusMonitor, status_message
from hardware.ros.status_condition import StatusCondition
from hardware.ros.topic_checks import Wanted, missing_publishers, missing_subscribers
from hardware.safety.limits import CommandLimits
from robot_rl.core.specs import AnyArray, FloatArray

ACTION_SERVER_S = 5.0


class VendorCommands:
    """What `RosRobot` sends to an arm whose driver is running already.

    The driver acknowledges nothing, so what is reported as applied is what was sent, clipped to the action's bounds.

    Args:
        config: The robot's.
        newest: The newest value of every stream.
    """

    lockstep = False
    stamp_ns = 0

    def __init__(self, config: RobotConfig, newest: Callable[[], Mapping[str, AnyArray]]) -> None:
        self._config = config
        self._newest = newest
        self._messages: Messages = _message
        self.adapter = make_adapter(config, _message)
        self._gripper = GripperConfig.parse(config)
        self._action_gripper: ActionGripper | None = None
        self._gripper_publisher: Any = None
        self._status = StatusMonitor(config)
        self._anchored = False
        self._publisher: Any = None
        self._link: BackgroundNode | None = None

    def connect(self, link: BackgroundNode) -> None:
        """Makes publishers and subscriptions on a node."""
        from hardware.ros import client

        self._link, self._anchored = link, False
        commands = client.QoSProfile(
            history=client.HistoryPolicy.KEEP_LAST, depth=1, reliability=client.ReliabilityPolicy.RELIABLE
        )
        outlet = self.adapter.outlet
        self._publisher = link.node.create_publisher(_message(outlet.type_name), outlet.topic, commands)
        if self._gripper is not None and self._gripper.outlet is not None:
            topic, type_name = self._gripper.outlet
            self._gripper_publisher = link.node.create_publisher(_message(type_name), topic, commands)
        elif self._gripper is not None:
            self._action_gripper = ActionGripper.on(link.node, self._gripper, client.BACKEND)
        for condition, topic in self._status.conditions:
            self._subscribe_status(condition, topic)

    def _subscribe_status(self, condition: StatusCondition, topic: str) -> None:
        from hardware.ros import client

        # Latched needs reliable delivery; what is said again and again is taken from publishers of either kind.
        durable, reliable = client.DurabilityPolicy, client.ReliabilityPolicy
        qos = client.QoSProfile(
            history=client.HistoryPolicy.KEEP_LAST,
            depth=1,
            durability=durable.TRANSIENT_LOCAL if condition.latched else durable.VOLATILE,
            reliability=reliable.RELIABLE if condition.latched else reliable.BEST_EFFORT,
        )
        assert self._link is not None
        status_class = status_message(condition)
        self._link.node.create_subscription(
            status_class, topic, lambda message: self._status.heard(condition, message), qos
        )

    def problems(self) -> list[str]:
        """What is not there yet, in words."""
        assert self._link is not None
        node = self._link.node
        outlets = [("robot.command.topic", self.adapter.outlet)]
        if self._gripper is not None and self._gripper.outlet is not None:
            outlets.append(("robot.gripper.topic", self._gripper.outlet))
        found = [missing_subscribers(node, Wanted(what, *outlet, reliable=True)) for what, outlet in outlets]
        topics = {condition.name: topic for condition, topic in self._status.conditions}
        for condition in self._status.unheard:
            where = f"robot.status.{condition.name}"
            wanted = Wanted(where, topics[condition.name], condition.type, condition.latched, condition.latched)
            silent = f"{where}: {topics[condition.name]} has said nothing; restart the vendor's driver"
            found.append(missing_publishers(node, wanted) or silent)
        return [each for each in found if each]

    def connected(self) -> None:
        """Called once when everything is there."""
        if self._action_gripper is not None:
            self._action_gripper.require_server(ACTION_SERVER_S)

    def reset(self, seed: int) -> None:
        """Begins an episode; nothing moves, but an arm that may not be moved is refused here already."""
        self._status.require_motion()
        self._anchored = False

    def check(self) -> None:
        """Nothing is acknowledged, so nothing can be missing."""

    def send(self, row: FloatArray, tick_ns: int) -> FloatArray:
        """Sends a row; returns what the arm was told. Shapes (A,), float64.

        Raises:
            MotionRefused: The driver does not allow motion.
        """
        assert self._link is not None
        self._status.require_motion()
        values, now_ns = self._newest(), self._link.now_ns()
        low, high = self._config.spec.action.bounds()
        row = np.clip(row, low, high)
        if not self._anchored:
            self.adapter.start(values)
            self._anchored = True
        names = self._config.spec.action.names
        message, done = self.adapter.command(picked(names, self.adapter.names, row), values, now_ns)
        self._publisher.publish(message)
        applied = row.copy()
        applied[[names.index(name) for name in self.adapter.names]] = done
        if self._gripper is not None:
            self._send_gripper(float(row[names.index(self._gripper.action)]))
        return applied

    def ahead(self) -> FloatArray:
        """How far the targets that the adapter adds up are ahead of the arm, NaN where it keeps none. Shape (A,)."""
        names = self._config.spec.action.names
        ahead = np.full(len(names), np.nan)
        if self._anchored:
            ahead[[names.index(name) for name in self.adapter.names]] = self.adapter.ahead(self._newest())
        return ahead

    def keep_within(self, limits: CommandLimits) -> None:
        """Takes the limits that rows keep, for what the adapter adds up itself.

        Raises:
            LimitError: They leave open where the tool may go.
        """
        self.adapter.keep_within(limits)

    def _send_gripper(self, value: float) -> None:
        assert self._gripper is not None
        if self._action_gripper is not None:
            self._action_gripper.send(value)
        else:
            self._gripper_publisher.publish(self._gripper.message(value, self._messages))

    def stop(self) -> None:
        """Sends the message that brings the arm to rest, where there is one."""
        if self._link is None or not self._anchored:
            return
        rest = self.adapter.rest(self._link.now_ns())
        if rest is not None:
            self._publisher.publish(rest)
        self._anchored = False

    def disconnect(self) -> None:
        """Forgets the node."""
        self._link = None


def _message(type_name: str) -> Any:
    from hardware.ros import client

    return client.message(type_name)
