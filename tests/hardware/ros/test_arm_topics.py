import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.arm.messages import ArmMode, Row, limits_hash
from hardware.arm.state import Mode
from hardware.ros import arm_topics
from hardware.ros.arm_topics import BadMessage, absolute, by_name, stream_topic
from hardware.ros.client import BACKEND
from hardware.sim.joint_arm import JointArm
from robot_rl.core.specs import ArraySpec

NAMES = ("shoulder", "elbow", "gripper")
needs_messages = pytest.mark.skipif(BACKEND is None, reason="neither rclpy nor cyclonedds and rosbags are installed")


@needs_messages
@given(
    st.integers(0, 2**31 * 10**9 - 1),
    st.lists(st.floats(width=32), min_size=3, max_size=3),
    st.integers(0, 2**15 - 1),
)
def test_a_row_and_its_acknowledgement_survive_the_wire(stamp_ns, values, reasons):
    command = arm_topics.decode_row(arm_topics.encode_row(stamp_ns, "a", NAMES, np.array(values)), NAMES)
    assert command[:2] == (stamp_ns, "a")
    assert np.array_equal(command.values, values, equal_nan=True)
    row = Row(stamp_ns, "a", np.array(values), reasons)
    applied = arm_topics.decode_applied(arm_topics.encode_applied(row, NAMES), NAMES)
    assert applied.reasons == reasons
    assert np.array_equal(applied.values, values, equal_nan=True)


@needs_messages
def test_a_reset_survives_the_wire():
    assert arm_topics.decode_reset(arm_topics.encode_reset(5, "ur5e_ab", 7)) == ("ur5e_ab", 7)


@needs_messages
def test_every_kind_of_stream_has_its_message():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    topic = stream_topic("image_wrist", ArraySpec((2, 4, 3), "uint8", "rgb"))
    message = arm_topics.encode_stream(topic, 5, (), picture)
    assert (message.height, message.width, message.step, message.encoding) == (2, 4, 12, "rgb8")
    assert bytes(message.data) == picture.tobytes()
    topic = stream_topic("tool_pose", ArraySpec((7,), "float32", "m"))
    message = arm_topics.encode_stream(topic, 5, (), np.arange(7.0))
    assert (message.pose.position.z, message.pose.orientation.w) == (2.0, 6.0)
    topic = stream_topic("joint_position", ArraySpec((3,), "float32", "rad", names=NAMES))
    message = arm_topics.encode_stream(topic, 5_000_000_007, NAMES, np.arange(3.0))
    assert topic.name == "joint_states"
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 7)
    assert (tuple(message.name), list(message.position)) == (NAMES, [0.0, 1.0, 2.0])


@needs_messages
def test_an_enabling_is_kept_for_others_and_not_for_the_arm_node():
    from hardware.ros.client import DurabilityPolicy

    assert arm_topics.ENABLE.qos().durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert arm_topics.ENABLE.qos(volatile=True).durability == DurabilityPolicy.VOLATILE


def test_values_are_found_by_name():
    assert by_name("it", ["elbow", "gripper", "shoulder"], [2.0, 3.0, 1.0], NAMES).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("given_names", "values"),
    [
        (NAMES, [1.0, 2.0]),
        (NAMES[:2], [1.0, 2.0]),
        ((*NAMES[:2], "tail"), [1.0, 2.0, 3.0]),
        (("elbow", "elbow", "gripper"), [1.0, 2.0, 3.0]),
        ((*NAMES, "elbow"), [1.0, 2.0, 3.0, 4.0]),
        ((), array.array("d")),
    ],
)
def test_values_of_other_joints_are_refused(given_names, values):
    with pytest.raises(BadMessage, match="wanted"):
        by_name("it", given_names, values, NAMES)


@pytest.mark.parametrize("points", [[], [SimpleNamespace(positions=[0.0] * 3)] * 2])
def test_a_command_of_more_or_less_than_one_row_is_refused(points):
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="a")
    with pytest.raises(BadMessage, match="wanted one row per message"):
        arm_topics.decode_row(SimpleNamespace(header=header, joint_names=NAMES, points=points), NAMES)


@pytest.mark.parametrize("said", ["", "a", " 5", "a -5", "a 1.5"])
def test_a_reset_without_session_and_seed_is_refused(said):
    with pytest.raises(BadMessage, match="wanted '<session> <seed>'"):
        arm_topics.decode_reset(SimpleNamespace(frame_id=said))


def test_a_mode_survives_the_wire_with_the_drivers_spec():
    spec = JointArm().spec
    mode = ArmMode(Mode.STOPPED, "button", "a", 2, 7, "no", True, spec.to_json(), "ab12")
    again = ArmMode.from_json(mode.to_json())
    assert again.robot_spec() == spec
    assert (again.mode, again.reason, again.session, again.episode, again.seed) == (Mode.STOPPED, "button", "a", 2, 7)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mode": "flying"}', "nonsense"])
def test_a_mode_that_is_none_is_refused(text):
    with pytest.raises(BadMessage, match="wanted an arm node's JSON"):
        ArmMode.from_json(text)


def test_limits_have_one_hash_however_they_are_ordered():
    assert limits_hash({"low": [1.0], "high": [2.0]}) == limits_hash({"high": [2.0], "low": [1.0]})
    assert limits_hash({"low": [1.0]}) != limits_hash({"low": [1.5]})


@pytest.mark.parametrize(
    ("namespace", "topic", "name"),
    [("/ur5e", "command", "/ur5e/command"), ("ur5e/", "wrist/image", "/ur5e/wrist/image"), ("/", "mode", "/mode"),
     ("", "mode", "/mode"), ("/ur5e", "/diagnostics", "/diagnostics")],
)  # fmt: skip
def test_topics_are_relative_to_the_namespace(namespace, topic, name):
    assert absolute(namespace, topic) == name
