"""`robot-rl stop` and `robot-rl clear`: a person's word to a running arm node, from any computer of the network.

The stop is a software function, not a safety-rated one: the arm's own emergency stop comes first.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

from hardware.arm.state import LATCHED, Mode
from hardware.ros.arm_remote import ArmRemote
from hardware.ros.network import join
from hardware.ros.topic_checks import where
from robot_rl.core.errors import HelpRequested, RobotRLError
from robot_rl.sessions.setup import load_robot

FIND_S = 5.0
ANSWER_S = 3.0
USAGE = """usage: robot-rl {command} robot=ros/<name> [namespace=/...]

{what}
settings:
  robot: the yaml whose `arm.namespace` is meant
  namespace: instead of a yaml
"""


class Target(NamedTuple):
    """Which arm node is meant.

    Attributes:
        namespace: Where its topics live.
        words: The setting as the user gave it.
    """

    namespace: str
    words: str


def stop(arguments: Sequence[str]) -> int:
    """Runs `robot-rl stop`: latches the software stop, and returns 0 when the arm node has said so."""
    target = parse("stop", arguments, "Latches the software stop of an arm; it is not a safety-rated function.")
    with ArmRemote(target.namespace, "robot_rl_stop") as remote:
        # Published before anybody is known to listen: it is kept for whoever is found a moment later.
        remote.stop()
        if not remote.wait_for(lambda mode: mode.mode in LATCHED, FIND_S):
            raise RobotRLError(f"{_unheard(remote, target, 'stop')}. USE THE ARM'S OWN EMERGENCY STOP")
        _tell(remote, f"`robot-rl clear {target.words}` ends this")
    return 0


def clear(arguments: Sequence[str]) -> int:
    """Runs `robot-rl clear`: ends a latched stop or fault, and returns 0 when the arm node has said so."""
    target = parse("clear", arguments, "Ends a latched stop or fault of an arm, after a person has looked at it.")
    with ArmRemote(target.namespace, "robot_rl_clear") as remote:
        if not (remote.wait_for(lambda _: True, FIND_S) and remote.wait_for_listener(FIND_S)):
            raise RobotRLError(_unheard(remote, target, "clear"))
        if remote.mode is not None and remote.mode.mode not in LATCHED:
            _tell(remote, "nothing to clear")
            return 0
        remote.clear(f"{getpass.getuser()}@{socket.gethostname()}")
        if not remote.wait_for(lambda mode: mode.mode is Mode.INACTIVE, ANSWER_S):
            raise RobotRLError(f"{_unheard(remote, target, 'clear')}: what stopped it lasts, see its reason")
        _tell(remote, "nothing moves until a session enables it")
    return 0


def parse(command: str, arguments: Sequence[str], what: str) -> Target:
    """The arm node that `robot=ros/my_arm` or `namespace=/my_arm` names.

    Raises:
        RobotRLError: Neither or something else is given, or this robot has no arm node.
        HelpRequested: `--help` was asked for.
    """
    if {"-h", "--help"} & set(arguments):
        raise HelpRequested(USAGE.format(command=command, what=what))
    settings = {name: value for name, _, value in (each.partition("=") for each in arguments)}
    if len(arguments) != 1 or not settings.keys() <= {"robot", "namespace"} or not all(settings.values()):
        raise RobotRLError(
            f"wanted which arm: robot-rl {command} robot=ros/<name>, or namespace=/<name>; got "
            f"{' '.join(arguments) or 'nothing'}"
        )
    if "namespace" in settings:
        join(None)
        return Target(settings["namespace"], arguments[0])
    robot = load_robot(settings["robot"])
    join(robot.robot.get("interface"))
    namespace = robot.arm.get("namespace")
    if not namespace:
        raise RobotRLError(
            f"{arguments[0]} has no `arm` in its yaml, so no arm node that could be told: stop it by its vendor's means"
        )
    return Target(str(namespace), arguments[0])


def _unheard(remote: ArmRemote, target: Target, what: str) -> str:
    """Why a word was not obeyed."""
    if remote.mode is None:
        return (
            f"no arm node answers at {target.namespace}: is it running, on this ROS_DOMAIN_ID, and reached from "
            f"here (we talk over: {where(os.environ)}; ROBOT_RL_INTERFACE or robot.interface in its yaml names more)? "
            f"`{what}` was not obeyed by anybody"
        )
    return f"the arm node at {target.namespace} did not obey `{what}`: {remote.mode.mode}, {remote.mode.reason}"


def _tell(remote: ArmRemote, then: str) -> None:
    assert remote.mode is not None
    reason = f" ({remote.mode.reason})" if remote.mode.reason else ""
    sys.stdout.write(f"the arm is {remote.mode.mode}{reason}; {then}\n")
