"""A leader arm followed through its driver's real messages: what it says falsely never becomes an action."""

import math
import time

import numpy as np
import pytest

from hardware.operators.leader.following import LeaderFollowing, LeaderLayout
from hardware.operators.leader.operator import LeaderArmOperator
from hardware.operators.leader.watch import LeaderWatch
from hardware.operators.terminal.key_events import KeyEvents
from hardware.ros.leader_arm import LeaderTopic
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorEvent
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from tests.hardware.operators.leader.test_operator import SPACE, TAB, Typed
from tests.hardware.ros.test_leader_arm import GIVE_UP_S, TOPIC, driver  # noqa: F401

pytestmark = pytest.mark.ros
BOUND = {"max_speed": 3.0, "margin": 0.1}
PLACE = {"hip": -2.5, "wrist": 2.25}
"""So far from 0 that zeros are false even after a message that a loaded machine kept waiting."""
ARM = RobotSpec(
    name="arm",
    observations={"joint_position": ArraySpec((2,), "float32", "rad")},
    action=ArraySpec((2,), "float64", "rad", -7.0, 7.0, ("hip", "wrist")),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=50.0,
)
FOLLOWING = [
    {"dimension": each, "joint": each, "stream": "joint_position", "index": index}
    for index, each in enumerate(("hip", "wrist"))
]


class Person:
    """Somebody with the driver's leader; the follower is where it was told to be."""

    def __init__(self):
        layout = LeaderLayout.for_spec(ARM, {"arm": {"following": FOLLOWING}})
        self.terminal, self.told = Typed(), []
        self.operator = LeaderArmOperator(
            ARM,
            LeaderTopic(TOPIC, layout.joints, 0.5, GIVE_UP_S, BOUND),
            LeaderFollowing(ARM, layout, 0.1, 0.2),
            KeyEvents(self.terminal),
            LeaderWatch(layout.joints, **BOUND),
            "lead",
            say=self.told.append,
        )
        self.place, self.actions, self.paused = np.array(list(PLACE.values()), dtype=np.float32), [], False

    def poll(self, keys=b""):
        time.sleep(1 / ARM.control_hz)
        self.terminal.typed += keys
        stamp_ns = time.monotonic_ns()
        command = self.operator.poll(Observation(stamp_ns, {"joint_position": self.place}, {"joint_position": 0}))
        self.paused ^= command.event is OperatorEvent.PAUSE
        if command.action is not None:
            self.actions.append(command.action)
            self.operator.see_applied(command.action)
            self.place = command.action.astype(np.float32)

    def until(self, condition, keys=b""):
        """Whether a condition comes true before patience ends."""
        until_s = time.monotonic() + GIVE_UP_S
        self.poll(keys)
        while not condition():
            if time.monotonic() > until_s:
                return False
            self.poll()
        return True


@pytest.fixture
def person(driver):  # noqa: F811
    driver.joints = dict(PLACE)
    somebody = Person()
    with somebody.operator:
        assert somebody.until(lambda: somebody.told[-1] == "lead: you drive", TAB)
        yield somebody


@pytest.mark.parametrize("false", [{"hip": 0.0, "wrist": 0.0}, {"hip": 4095.0, "wrist": 4095.0}, {"hip": math.nan}])
def test_a_false_message_never_becomes_an_action(person, driver, false):  # noqa: F811
    driver.once = {**driver.joints, **false}
    heard = len(person.actions)
    assert person.until(lambda: driver.once is None and len(person.actions) > heard + 20)
    assert np.abs(np.array(person.actions) - list(PLACE.values())).max() < 1e-3
    assert not person.paused


def test_a_wrapped_encoder_pauses_the_robot_in_words_and_is_not_followed_after_it(person, driver):  # noqa: F811
    driver.joints["hip"] += 2 * math.pi
    assert person.until(lambda: person.paused)
    assert "'hip' went from -2.5 to 3.783 rad" in person.told[-1]
    assert person.until(lambda: "is back" in person.told[-1])
    assert person.until(lambda: "hip is off by whole turns" in person.told[-1], SPACE)
    assert np.abs(np.array(person.actions) - list(PLACE.values())).max() < 1e-3
    driver.joints["hip"] = PLACE["hip"]
    assert person.until(lambda: person.told[-1].endswith(("you drive", "Space goes on")))
    assert np.abs(np.array(person.actions) - list(PLACE.values())).max() < 1e-3


def test_a_leader_that_a_hand_moves_is_followed(person, driver):  # noqa: F811
    for _ in range(50):
        driver.joints["hip"] += 0.02
        person.poll()
    assert person.until(lambda: abs(person.actions[-1][0] - driver.joints["hip"]) < 1e-3)
    assert not person.paused
