"""Every mistake in a robot's yaml is named before anything is connected."""

import copy

import pytest

from hardware.ros.robot import RosRobot
from hardware.ros.robot_config import RobotConfig
from hardware.ros.yaml_section import RobotYamlError
from robot_rl.core.specs import ActionKind

JOINTS = ["pan", "lift"]


def sound():
    return {
        "name": "arm",
        "namespace": "/arm",
        "control_hz": 20.0,
        "streams": {
            "joint_position": {
                "kind": "joints",
                "topic": "joint_states",
                "joints": JOINTS,
                "max_age_s": 0.05,
                "max_speed": 3.0,
                "margin": 0.05,
            },
            "tool_pose": {
                "kind": "pose",
                "topic": "tool_pose",
                "max_age_s": 0.05,
                "max_speed": [2.0, 4.0],
                "margin": [0.02, 0.05],
            },
            "image": {"kind": "image", "topic": "image_raw/compressed", "size": [4, 6], "max_age_s": 0.1},
        },
        "action": {
            "names": [*JOINTS, "gripper"],
            "unit": ["rad", "rad", "1"],
            "kinds": ["position", "position", "binary"],
            "low": [-1.0, -2.0, 0.0],
            "high": [1.0, 2.0, 1.0],
        },
        "command": {"adapter": "joint_forward", "topic": "commands"},
        "gripper": {"kind": "float64", "action": "gripper", "topic": "grip", "open": 0.0, "closed": 0.8},
        "status": {
            "program": {"topic": "/running", "type": "std_msgs/msg/Bool", "one_of": [True], "remedy": "start it"},
        },
    }


def changed(path, value):
    """The sound settings with one value replaced; None removes it."""
    settings = copy.deepcopy(sound())
    *way, last = path.split(".")
    section = settings
    for key in way:
        section = section[key]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return settings


def test_a_sound_yaml_becomes_a_spec():
    config = RobotConfig.parse(**sound())
    assert [*config.spec.observations] == ["joint_position", "tool_pose", "image"]
    assert config.spec.observations["joint_position"].names == tuple(JOINTS)
    assert config.spec.observations["image"].shape == (4, 6, 3)
    assert config.spec.action.unit == "rad,rad,1"
    assert config.spec.action_kinds == (ActionKind.POSITION, ActionKind.POSITION, ActionKind.BINARY)
    assert config.topic("joint_states") == "/arm/joint_states"
    assert config.topic("/camera/image_raw") == "/camera/image_raw"


def test_a_robot_at_the_root_has_topics_without_a_double_slash():
    config = RobotConfig.parse(**changed("namespace", "/"))
    assert config.topic("joint_states") == "/joint_states"


def test_the_suffix_of_a_topic_tells_a_compressed_image():
    streams = RobotConfig.parse(**sound()).streams
    assert streams["image"].message_type == "sensor_msgs/msg/CompressedImage"
    raw = RobotConfig.parse(**changed("streams.image.topic", "image_raw")).streams
    assert raw["image"].message_type == "sensor_msgs/msg/Image"


MISTAKES = [
    ("streams", {}, "streams is empty"),
    ("streams.image", "camera", "robot.streams.image is 'camera', wanted a mapping"),
    ("streams.image.fps", 30, "robot.streams.image of kind 'image' has no key 'fps'"),
    ("streams.image.size", [4], r"size is \[4\], wanted \[height, width\]"),
    ("streams.image.size", [4, -6], "wanted whole numbers above 0"),
    ("streams.image.kind", "video", "kind is 'video', wanted one of joints, numbers, pose, image"),
    ("streams.image.topic", "image raw", "wanted a ROS topic"),
    ("streams.image.topic", None, "robot.streams.image.topic is missing"),
    ("streams.image.max_age_s", None, "robot.streams.image.max_age_s is missing"),
    ("streams.image.max_age_s", -0.1, "max_age_s is -0.1"),
    ("streams.image.max_age_s", 0.0, "wanted seconds above 0"),
    ("streams.image.latency_s", "30 ms", "latency_s is '30 ms', wanted a number"),
    ("streams.joint_position.joints", [], "joints is missing"),
    ("streams.joint_position.joints", ["pan", "pan"], "has 'pan' twice"),
    ("streams.joint_position.max_speed", None, "max_speed is missing: what each joint can physically do"),
    ("streams.joint_position.margin", None, "margin is missing: by how much two samples may differ"),
    ("streams.joint_position.max_speed", [3.0], "joint_position: max_speed has 1 numbers, wanted 2"),
    ("streams.joint_position.max_speed", 0.0, "joint_position: max_speed is 0.0, wanted finite numbers above 0"),
    ("streams.joint_position.max_speed", "fast", "max_speed is 'fast', wanted a number"),
    ("streams.joint_position.margin", [0.1, True], "margin is True, wanted a number"),
    ("streams.joint_position.margin", float("inf"), "margin is inf, wanted a number"),
    ("streams.tool_pose.max_speed", None, r"what the tool can physically do, \[m/s, rad/s\]"),
    ("streams.tool_pose.max_speed", 2.0, "two numbers for a pose"),
    ("streams.tool_pose.margin", None, r"margin is missing: .*\[m, rad\]"),
    ("streams.image.max_speed", 1.0, "of kind 'image' has no key 'max_speed'"),
    ("streams.joint_position.joints", ["pan"], "the arm has no joint 'lift'; its streams show 'pan'"),
    ("streams.joint_position.field", "torque", "field is 'torque', wanted position, velocity, effort"),
    ("streams.joint_position.dtype", "float16", "dtype is 'float16'"),
    ("streams.tool_pose.topic", "joint_states", "a topic has one type"),
    ("streams.tool_pose.topic", "commands", "same topic /arm/commands: commands would be read as measurements"),
    ("action.names", ["pan", "elbow", "gripper"], "the arm has no joint 'elbow'"),
    ("action.names", ["pan", "pan", "gripper"], "robot.action.names has 'pan' twice"),
    ("action.unit", ["rad"], "unit has 1 entries for 3 names"),
    ("action.kinds", ["position", "binary"], "kinds has 2 entries for 3 names"),
    ("action.kinds", ["position", "speed", "binary"], "kinds is 'speed', wanted position, rate, binary"),
    ("action.kinds", ["position", "rate", "binary"], "'lift' is rate, but adapter 'joint_forward' takes position"),
    ("action.kinds", None, "robot.action.kinds is missing"),
    ("action.low", [-1.0, 3.0, 0.0], "low of 'lift' is 3.0, above its high 2.0"),
    ("action.low", [-1.0, float("nan"), 0.0], "low is nan, wanted a finite number"),
    ("action.low", [-1.0], "wanted 3 numbers, one per action"),
    ("action.high", None, "low and high of 'gripper' are needed"),
    ("action.speed", 1.0, "robot.action has no key 'speed'"),
    ("command.adapter", "telepathy", "adapter is 'telepathy', wanted one of arm_node, joint_forward"),
    ("command.topic", None, "robot.command.topic is missing; adapter 'joint_forward' needs it"),
    ("command.rate_hz", 100.0, "robot.command with adapter 'joint_forward' has no key 'rate_hz'"),
    ("command.joints", ["pan"], "robot.action.names has 'pan', 'lift'"),
    ("command", {"adapter": "arm_node"}, "robot.gripper does not go with adapter 'arm_node'"),
    ("command", {"adapter": "servo_twist", "topic": "twist"}, "takes 6: displacements"),
    ("gripper.kind", "magnet", "kind is 'magnet', wanted float64, float64_array, joint_trajectory or action"),
    ("gripper.action", "claw", "the arm has no joint .gripper.; its streams show .pan., .lift."),
    ("gripper.open", None, "robot.gripper.open is missing; kind 'float64' needs it"),
    ("gripper.kind", "joint_trajectory", "robot.gripper.horizon_s is missing; kind 'joint_trajectory' needs it"),
    ("status.program.one_of", True, "wanted a list of the values that allow motion"),
    ("status.program.remedy", None, "robot.status.program.remedy is missing"),
    ("status.program.type", "Bool", "wanted a message type such as std_msgs/msg/Bool"),
    ("status.program.one_of", [1.5], r"one_of is 1\.5, wanted true, false, whole numbers or names"),
    ("status.program.one_of", None, "says no value that allows motion: write one_of, or at_least and at_most"),
    ("status.program.at_least", 1, "has one_of as well as at_least or at_most"),
    ("status.program.field", "a..b", r"field is 'a\.\.b', wanted a field such as mode"),
    ("status.program.latched", "yes", "latched is 'yes', wanted true or false"),
    ("status.program.latched", False, "max_age_s is missing; a driver that died says nothing"),
    ("status.program.max_age_s", 0.0, "max_age_s is 0.0, wanted seconds above 0"),
    ("status.program.also", {"Errors": "bool a"}, "also is 'Errors', wanted a message type"),
    ("status.program.silent_s", 1.0, "robot.status.program has no key 'silent_s'"),
    ("name", True, "robot.name is True, wanted a name: put it in quotes"),
    ("name", "a\x00", "robot.name is .*, wanted 1 to 100 printable characters"),
    ("streams.image.publishers", 0, "publishers is 0, wanted a whole number of at least 1"),
    ("streams.tool_pose.interpolate", 1, "interpolate is 1, wanted true or false"),
    ("streams.joint_position.unit", False, "unit is False, wanted a name: put it in quotes"),
    ("streams.joint_position.joints", ["pan", True], "joints is True, wanted a name: put it in quotes"),
    ("streams.joint_position.kind", {}, "kind is {}, wanted one of joints"),
    ("action.kinds", 3, "kinds is 3, wanted a list of names"),
    ("control_hz", "fast", "robot.control_hz is 'fast'"),
    ("namespace", "my arm", "robot.namespace is 'my arm'"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=[f"{path}={value}" for path, value, _ in MISTAKES])
def test_a_mistake_is_named(path, value, message):
    with pytest.raises(RobotYamlError, match=message):
        RosRobot(**changed(path, value))


def test_one_part_of_a_topic_is_read_once():
    settings = changed("streams.again", sound()["streams"]["joint_position"])
    with pytest.raises(RobotYamlError, match="again and joint_position are the same part of /arm/joint_states"):
        RosRobot(**settings)


def test_position_and_velocity_may_be_read_from_one_topic():
    settings = changed("streams.speed", sound()["streams"]["joint_position"] | {"field": "velocity"})
    assert RosRobot(**settings).spec.observations["speed"].unit == "rad/s"


def test_no_setting_is_taken_from_a_mapping_of_another_kind_of_container():
    class Section(dict):
        """Stands for a config library's containers."""

    robot = RosRobot(**{**sound(), "streams": Section(sound()["streams"]), "action": Section(sound()["action"])})
    assert robot.spec == RosRobot(**sound()).spec
