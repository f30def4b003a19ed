"""A message of every type that robot-rl's nodes use, each field filled with something that a default is not."""

from __future__ import annotations

import array
from typing import Any

from hardware.ros.client import message


def make(name: str, /, **fields: Any) -> Any:
    return message(name)(**fields)


def header() -> Any:
    return make(
        "std_msgs/msg/Header", stamp=make("builtin_interfaces/msg/Time", sec=17, nanosec=999_999_999), frame_id="basé"
    )


def xyz(name: str = "Vector3") -> Any:
    return make(f"geometry_msgs/msg/{name}", x=1.0, y=-2.5, z=3e300)


def rotation() -> Any:
    return make("geometry_msgs/msg/Quaternion", x=0.5, y=0.5, z=-0.5, w=0.5)


def pose() -> Any:
    return make("geometry_msgs/msg/Pose", position=xyz("Point"), orientation=rotation())


def twist() -> Any:
    return make("geometry_msgs/msg/Twist", linear=xyz(), angular=xyz())


def point() -> Any:
    return make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=[0.1, float("inf")],
        velocities=[1.0],
        accelerations=[],
        effort=[2.0, 3.0],
        time_from_start=make("builtin_interfaces/msg/Duration", sec=-1, nanosec=5),
    )


def camera_info() -> Any:
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header(),
        height=480,
        width=640,
        distortion_model="plumb_bob",
        d=[0.1, 0.2, 0.3, 0.4, 0.5],
        k=[float(i) for i in range(9)],
        r=[float(i) for i in range(9)],
        p=[float(i) for i in range(12)],
        binning_x=1,
        roi=make("sensor_msgs/msg/RegionOfInterest", x_offset=1, height=2, do_rectify=True),
    )


def diagnostics() -> Any:
    status = message("diagnostic_msgs/msg/DiagnosticStatus")
    values = [make("diagnostic_msgs/msg/KeyValue", key=key, value="1") for key in ("rate", "")]
    made = status(level=status.WARN, name="arm", message="late", hardware_id="7", values=values)
    return make("diagnostic_msgs/msg/DiagnosticArray", header=header(), status=[made, status()])


def joint_state() -> Any:
    return make(
        "sensor_msgs/msg/JointState",
        header=header(),
        name=["a", "", "joint_3"],
        position=[1.0, 2.0, 3.0],
        velocity=array.array("d", [0.5]),
        effort=[],
    )


def image() -> Any:
    return make(
        "sensor_msgs/msg/Image",
        header=header(),
        height=2,
        width=3,
        encoding="rgb8",
        is_bigendian=0,
        step=9,
        data=bytes(range(18)),
    )


def multi_array() -> Any:
    dimension = make("std_msgs/msg/MultiArrayDimension", label="joint", size=2, stride=2)
    layout = make("std_msgs/msg/MultiArrayLayout", dim=[dimension], data_offset=0)
    return make("std_msgs/msg/Float64MultiArray", layout=layout, data=[0.25, -0.0])


def parameter_value() -> Any:
    return make(
        "rcl_interfaces/msg/ParameterValue",
        type=5,
        byte_array_value=[b"\x01", b"\xff"],
        bool_array_value=[True, False],
        integer_array_value=[-(2**63)],
        string_array_value=["x", ""],
    )


def stamped(name: str, field: str, value: Any) -> Any:
    return make(f"geometry_msgs/msg/{name}", header=header(), **{field: value})


SAMPLES = {
    "std_msgs/msg/Bool": lambda: make("std_msgs/msg/Bool", data=True),
    "std_msgs/msg/Byte": lambda: make("std_msgs/msg/Byte", data=b"\x7f"),
    "std_msgs/msg/Empty": lambda: make("std_msgs/msg/Empty"),
    "std_msgs/msg/Float64": lambda: make("std_msgs/msg/Float64", data=-1.5),
    "std_msgs/msg/Float32": lambda: make("std_msgs/msg/Float32", data=0.5),
    "std_msgs/msg/Float64MultiArray": multi_array,
    "std_msgs/msg/Header": header,
    "std_msgs/msg/Int32": lambda: make("std_msgs/msg/Int32", data=-(2**31)),
    "std_msgs/msg/Int64": lambda: make("std_msgs/msg/Int64", data=2**63 - 1),
    "std_msgs/msg/String": lambda: make("std_msgs/msg/String", data="grün, 机器人"),
    "std_msgs/msg/UInt8": lambda: make("std_msgs/msg/UInt8", data=255),
    "std_msgs/msg/UInt8MultiArray": lambda: make("std_msgs/msg/UInt8MultiArray", data=[0, 255]),
    "builtin_interfaces/msg/Time": lambda: make("builtin_interfaces/msg/Time", sec=-5, nanosec=1),
    "builtin_interfaces/msg/Duration": lambda: make("builtin_interfaces/msg/Duration", sec=5, nanosec=2),
    "sensor_msgs/msg/CameraInfo": camera_info,
    "sensor_msgs/msg/CompressedImage": lambda: make(
        "sensor_msgs/msg/CompressedImage", header=header(), format="jpeg", data=b"\xff\xd8\x00"
    ),
    "sensor_msgs/msg/Image": image,
    "sensor_msgs/msg/JointState": joint_state,
    "sensor_msgs/msg/Joy": lambda: make("sensor_msgs/msg/Joy", header=header(), axes=[0.5, -1.0], buttons=[0, 1, 1]),
    "geometry_msgs/msg/Point": lambda: xyz("Point"),
    "geometry_msgs/msg/Pose": pose,
    "geometry_msgs/msg/PoseStamped": lambda: stamped("PoseStamped", "pose", pose()),
    "geometry_msgs/msg/Quaternion": rotation,
    "geometry_msgs/msg/TransformStamped": lambda: stamped(
        "TransformStamped", "transform", make("geometry_msgs/msg/Transform", translation=xyz(), rotation=rotation())
    ),
    "geometry_msgs/msg/Twist": twist,
    "geometry_msgs/msg/TwistStamped": lambda: stamped("TwistStamped", "twist", twist()),
    "geometry_msgs/msg/Vector3": xyz,
    "geometry_msgs/msg/WrenchStamped": lambda: stamped(
        "WrenchStamped", "wrench", make("geometry_msgs/msg/Wrench", force=xyz(), torque=xyz())
    ),
    "trajectory_msgs/msg/JointTrajectory": lambda: make(
        "trajectory_msgs/msg/JointTrajectory", header=header(), joint_names=["a", "b"], points=[point(), point()]
    ),
    "trajectory_msgs/msg/JointTrajectoryPoint": point,
    "control_msgs/msg/DynamicJointState": lambda: make(
        "control_msgs/msg/DynamicJointState",
        header=header(),
        joint_names=["a"],
        interface_values=[make("control_msgs/msg/InterfaceValue", interface_names=["position"], values=[1.0])],
    ),
    "control_msgs/msg/GripperCommand": lambda: make("control_msgs/msg/GripperCommand", position=0.04, max_effort=20.0),
    "control_msgs/msg/JointJog": lambda: make(
        "control_msgs/msg/JointJog", header=header(), joint_names=["a"], velocities=[0.1], duration=0.02
    ),
    "diagnostic_msgs/msg/DiagnosticArray": diagnostics,
    "rcl_interfaces/msg/ParameterValue": parameter_value,
    "rcl_interfaces/msg/Log": lambda: make("rcl_interfaces/msg/Log", level=20, name="arm", msg="ready", line=3),
}
"""Makes a filled message, by type."""
