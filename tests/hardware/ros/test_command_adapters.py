"""Each adapter makes exactly the message that its vendor's controller understands; no network is needed for that."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.ros.command_settings import make_adapter
from hardware.ros.gripper import ActionGripper, GripperConfig
from hardware.ros.robot_config import RobotConfig
from hardware.ros.rotation import from_vector, rotation_between, turned
from hardware.ros.yaml_section import RobotYamlError
from hardware.safety.dimensions import LimitError
from hardware.safety.limits import CommandLimits
from robot_rl.core.errors import RobotRLError

pytest.importorskip("rosbags")
client = pytest.importorskip("hardware.ros.client")

S = 1_000_000_000
POSE = np.array([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
AXES = ["x", "y", "z", "rx", "ry", "rz"]


def joint_robot(command, gripper=None, names=("pan", "lift")):
    return RobotConfig.parse(
        name="arm",
        namespace="/arm",
        control_hz=20.0,
        streams={
            "q": {
                "kind": "joints",
                "topic": "joint_states",
                "joints": ["pan", "lift"],
                "max_age_s": 0.05,
                "max_speed": 3.0,
                "margin": 0.05,
            }
        },
        action={
            "names": [*names, *(["gripper"] if gripper else [])],
            "unit": ["rad"] * (len(names) + bool(gripper)),
            "kinds": ["position"] * (len(names) + bool(gripper)),
            "low": 0.0,
            "high": 1.0,
        },
        command=command,
        gripper=gripper,
    )


def tool_robot(command):
    return RobotConfig.parse(
        name="arm",
        namespace="/arm",
        control_hz=50.0,
        streams={
            "tool": {
                "kind": "pose",
                "topic": "tool_pose",
                "max_age_s": 0.05,
                "max_speed": [2.0, 4.0],
                "margin": [0.02, 0.05],
            }
        },
        action={"names": AXES, "unit": ["1"] * 6, "kinds": ["rate"] * 6},
        command=command,
    )


def cartesian(**changes):
    settings = {"pose_stream": "tool", "frame_id": "base", "leash_m": 0.05, "leash_rad": 0.2, **changes}
    return make_adapter(tool_robot({"adapter": "cartesian_pose", "topic": "target_pose", **settings}), client.message)


def servo():
    settings = {"adapter": "servo_twist", "topic": "/servo_node/delta_twist_cmds", "frame_id": "link0"}
    return make_adapter(tool_robot(settings), client.message)


def target_of(message):
    place, turn = message.pose.position, message.pose.orientation
    return np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w])


def test_joint_forward_sends_numbers_in_the_controllers_order():
    adapter = make_adapter(
        joint_robot({"adapter": "joint_forward", "topic": "commands", "joints": ["lift", "pan"]}), client.message
    )
    assert adapter.outlet == ("/arm/commands", "std_msgs/msg/Float64MultiArray")
    assert adapter.names == ("lift", "pan")
    message, applied = adapter.command(np.array([0.2, 0.1]), {}, 0)
    assert list(message.data) == [0.2, 0.1]
    assert applied.tolist() == [0.2, 0.1]
    assert adapter.rest(0) is None


def test_joint_trajectory_is_one_point_a_little_ahead_with_names():
    adapter = make_adapter(
        joint_robot({"adapter": "joint_trajectory", "topic": "jt", "horizon_s": 0.06}), client.message
    )
    message, _ = adapter.command(np.array([0.1, 0.2]), {}, 5 * S)
    assert list(message.joint_names) == ["pan", "lift"]
    (point,) = message.points
    assert list(point.positions) == [0.1, 0.2]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 60_000_000)
    # A stamp of zero is "at once"; any other would be compared with the robot's clock.
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)


def test_a_cartesian_target_adds_displacements_up_from_where_the_arm_was_seen():
    adapter = cartesian()
    adapter.start({"tool": POSE})
    adapter.command(np.array([0.01, 0, 0, 0, 0, 0.0]), {"tool": POSE}, S)
    message, applied = adapter.command(np.array([0.01, -0.02, 0, 0, 0, 0.1]), {"tool": POSE}, S)
    np.testing.assert_allclose(target_of(message)[:3], [0.42, -0.02, 0.3])
    np.testing.assert_allclose(rotation_between(POSE[3:], target_of(message)[3:]), [0, 0, 0.1], atol=1e-12)
    np.testing.assert_allclose(applied, [0.01, -0.02, 0, 0, 0, 0.1])
    assert message.header.frame_id == "base"
    assert message.header.stamp.sec == 1


def test_a_held_arm_does_not_store_up_motion():
    adapter = cartesian(leash_m=0.05, leash_rad=0.2)
    adapter.start({"tool": POSE})
    for _ in range(100):
        message, applied = adapter.command(np.array([0.02, 0, 0, 0.15, 0, 0]), {"tool": POSE}, S)
    assert np.linalg.norm(target_of(message)[:3] - POSE[:3]) <= 0.05
    assert np.linalg.norm(rotation_between(POSE[3:], target_of(message)[3:])) <= 0.2
    np.testing.assert_allclose(applied, np.zeros(6), atol=1e-3)
    _, back = adapter.command(np.array([-0.02, 0, 0, -0.15, 0, 0]), {"tool": POSE}, S)
    np.testing.assert_allclose(back, [-0.02, 0, 0, -0.15, 0, 0])


WALLS = {"x": (0.25, 0.65), "y": (-0.35, 0.35), "z": (0.02, 0.6)}


def limits_of(**changes):
    """Limits of the tool robot with the box above; None takes a measurement away."""
    axes = {
        name: {"stream": "tool", "index": k, "low": low, "high": high}
        for k, (name, (low, high)) in enumerate(WALLS.items())
    }
    measured = {name: axis for name, axis in (axes | changes).items() if axis is not None}
    bounds = {"max_step": 0.005, "max_velocity": 0.25, "max_acceleration": 1.0, "max_jerk": 10.0}
    document = {"low": [-0.005] * 6, "high": [0.005] * 6, **{key: [value] * 6 for key, value in bounds.items()}}
    document |= {"max_age_s": {"tool": 0.05}, "ramp_after_s": 0.1, "fault_after_s": 0.5, "measured": measured}
    return CommandLimits.for_spec(tool_robot({"adapter": "arm_node"}).spec, document)


def boxed(**changes):
    adapter = cartesian(**changes)
    adapter.keep_within(limits_of())
    return adapter


def at(x, y=0.0, z=0.3):
    return {"tool": np.array([x, y, z, 1.0, 0.0, 0.0, 0.0])}


def test_a_tool_held_inside_a_wall_draws_no_target_beyond_it():
    adapter, held = boxed(), at(0.64)
    adapter.start(held)
    for _ in range(100):
        message, _ = adapter.command(np.array([0.005, 0, 0, 0, 0, 0]), held, S)
    assert target_of(message)[0] == pytest.approx(0.65)


def test_a_tool_that_was_pushed_out_of_its_box_is_only_led_nearer():
    adapter, outside = boxed(), at(0.7)
    adapter.start(outside)
    _, applied = adapter.command(np.array([0.005, 0, 0, 0, 0, 0]), outside, S)
    assert applied[0] == 0.0
    message, applied = adapter.command(np.array([-0.005, 0, 0, 0, 0, 0]), outside, S)
    assert applied[0] == pytest.approx(-0.005)
    assert target_of(message)[0] == pytest.approx(0.695)


steps = st.lists(st.floats(-0.005, 0.005), min_size=3, max_size=3)
places = st.tuples(*(st.floats(low, high) for low, high in WALLS.values()))


@given(st.lists(st.tuples(steps, places), max_size=60))
def test_a_target_never_leaves_the_box_whatever_is_asked_and_seen(rows):
    adapter = boxed()
    adapter.start(at(0.64, 0.34, 0.03))
    for step, place in rows:
        message, _ = adapter.command(np.array([*step, 0, 0, 0]), at(*place), S)
        for reached, (low, high) in zip(target_of(message)[:3], WALLS.values(), strict=True):
            assert low <= reached <= high


def test_the_leash_stops_a_target_softly():
    hz, speed, leash = 100.0, 0.25, 0.2
    adapter = cartesian(leash_m=leash)
    adapter.start({"tool": POSE})
    speeds = []
    for _ in range(400):
        _, applied = adapter.command(np.array([speed / hz, 0, 0, 0, 0, 0]), {"tool": POSE}, S)
        speeds.append(applied[0] * hz)
    assert speeds[-1] < 0.01 * speed
    assert np.max(np.abs(np.diff(speeds))) * hz <= 2.05 * speed**2 / leash


def test_a_target_that_leads_says_by_how_much():
    adapter = cartesian()
    assert np.isnan(adapter.ahead({"tool": POSE})).all()
    adapter.start({"tool": POSE})
    adapter.command(np.array([0.01, 0, 0, 0, 0, 0.02]), {"tool": POSE}, S)
    np.testing.assert_allclose(adapter.ahead({"tool": POSE}), [0.01, 0, 0, 0, 0, 0.02], atol=1e-12)
    assert np.isnan(servo().ahead({"tool": POSE})).all()


AXIS_Z = {"stream": "tool", "index": 2, "low": 0.02, "high": 0.6}


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (None, r"limits\.measured\.z is missing: nothing would keep the tool in its box along z"),
        ({"stream": "tool", "index": 2}, r"limits\.measured\.z has no low and high"),
    ],
)
def test_displacements_without_a_measured_box_are_refused(z, message):
    for adapter in (cartesian(), servo()):
        with pytest.raises(LimitError, match=message):
            adapter.keep_within(limits_of(z=z))


def test_a_box_must_be_of_the_pose_whose_target_it_keeps():
    with pytest.raises(LimitError, match="element 1 of 'tool' times 1, wanted element 2 of 'tool'"):
        cartesian().keep_within(limits_of(z=AXIS_Z | {"index": 1}))


def test_a_cartesian_target_is_never_sent_before_it_was_anchored():
    with pytest.raises(RobotRLError, match="never anchored"):
        cartesian().command(np.zeros(6), {"tool": POSE}, S)


def test_a_pose_stream_that_is_none_is_named():
    with pytest.raises(RobotYamlError, match=r"pose_stream is 'hand'.*there is 'tool'"):
        cartesian(pose_stream="hand")


def test_servo_is_told_a_velocity_with_the_time_of_now_and_zero_at_rest():
    adapter = servo()
    message, applied = adapter.command(np.array([0.001, 0, 0, 0, 0, -0.002]), {}, 7 * S)
    assert adapter.outlet.topic == "/servo_node/delta_twist_cmds"
    assert message.twist.linear.x == pytest.approx(0.05)
    assert message.twist.angular.z == pytest.approx(-0.1)
    assert (message.header.stamp.sec, message.header.frame_id) == (7, "link0")
    assert applied[0] == 0.001
    rest = adapter.rest(8 * S)
    assert (rest.twist.linear.x, rest.twist.angular.z, rest.header.stamp.sec) == (0.0, 0.0, 8)


GRIPPER = {"action": "gripper", "topic": "/grip", "open": 0.08, "closed": 0.0}


def gripper_of(**changes):
    settings = joint_robot({"adapter": "joint_forward", "topic": "c"}, {**GRIPPER, **changes})
    return GripperConfig.parse(settings)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("float64", {}), ("float64_array", {}), ("joint_trajectory", {"joint": "finger", "horizon_s": 0.1})],
)
def test_a_gripper_on_a_topic_gets_its_drivers_position(kind, more):
    gripper = gripper_of(kind=kind, **more)
    positions = []
    for value in (0.0, 0.25, 1.0):
        message = gripper.message(value, client.message)
        if kind == "joint_trajectory":
            assert list(message.joint_names) == ["finger"]
            positions.append(message.points[0].positions[0])
        else:
            positions.append(message.data if kind == "float64" else message.data[0])
    assert positions == pytest.approx([0.08, 0.06, 0.0])


class FakeActionClient:
    """A GripperCommand server's client."""

    def __init__(self):
        self.goals = []

    def wait_for_server(self, timeout_sec):
        return True

    def send_goal_async(self, goal):
        self.goals.append((goal.command.position, goal.command.max_effort))


class Goal:
    """`GripperCommand.Goal`."""

    def __init__(self):
        self.command = client.message("control_msgs/msg/GripperCommand")()


def test_a_gripper_action_gets_a_goal_only_when_it_changes():
    server = FakeActionClient()
    gripper = ActionGripper(gripper_of(kind="action", max_effort=20.0), server, Goal)
    for value in (0.0, 0.0, 1.0, 1.0, 1.0, 0.0):
        gripper.send(value)
    assert server.goals == [(0.08, 20.0), (0.0, 20.0), (0.08, 20.0)]


def test_a_gripper_action_without_rclpy_says_what_to_do():
    with pytest.raises(RobotRLError, match=r"needs? rclpy: run arm_node where ROS 2 is installed.*float64_array"):
        ActionGripper.on(None, gripper_of(kind="action", max_effort=20.0), "pip")


vectors = st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3).map(np.array)


@given(vectors, vectors)
def test_turning_by_the_rotation_between_two_orientations_leads_from_one_to_the_other(one, other):
    start, end = from_vector(one), from_vector(other)
    reached = turned(start, rotation_between(start, end))
    assert abs(abs(float(np.dot(reached, end))) - 1.0) < 1e-9


@given(vectors)
def test_a_rotation_vector_survives_the_way_through_a_quaternion(vector):
    angle = np.linalg.norm(vector)
    if angle >= np.pi:
        return
    identity = np.array([0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(rotation_between(identity, from_vector(vector)), vector, atol=1e-9)
