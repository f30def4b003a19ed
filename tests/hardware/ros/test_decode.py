"""One decoder for live messages of either client and for bags: any object with a message's fields."""

import array
from types import SimpleNamespace as Message

import cv2
import numpy as np
import pytest

from hardware.ros import decode
from robot_rl.core.errors import BadMessage

JOINTS = ("pan", "lift", "elbow")


def joint_state(name, position, velocity=(), effort=()):
    return Message(name=name, position=position, velocity=velocity, effort=effort)


@pytest.mark.parametrize("container", [list, np.array, lambda values: array.array("d", values)])
def test_joints_are_found_by_name_whatever_their_order_and_container(container):
    message = joint_state(["elbow", "gripper", "pan", "lift"], container([3.0, 9.0, 1.0, 2.0]))
    np.testing.assert_array_equal(decode.joint_values(message, JOINTS), [1.0, 2.0, 3.0])


def test_a_joint_that_the_message_lacks_is_named_with_those_it_has():
    with pytest.raises(BadMessage, match=r"no joint 'elbow'.*has 'pan', 'lift'"):
        decode.joint_values(joint_state(["pan", "lift"], [1.0, 2.0]), JOINTS)


def test_a_message_of_other_joints_altogether_is_told_apart_from_a_broken_one():
    with pytest.raises(decode.OtherJoints):
        decode.joint_values(joint_state(["finger"], [1.0]), JOINTS)
    with pytest.raises(BadMessage) as caught:
        decode.joint_values(joint_state(["pan"], [1.0]), JOINTS)
    assert not isinstance(caught.value, decode.OtherJoints)


@pytest.mark.parametrize(
    ("name", "position", "fault"),
    [
        (["pan", "lift", "elbow"], [1.0, 2.0], "2 values of 'position' for 3 joints"),
        (["pan", "lift", "elbow", "pan"], [1.0, 2.0, 3.0, 4.0], "'pan' is in the message more than once"),
        (["pan", "lift", "elbow"], [1.0, float("nan"), 3.0], "'lift' is nan"),
        (["pan", "lift", "elbow"], [1.0, 2.0, float("inf")], "'elbow' is inf"),
    ],
)
def test_a_joint_state_that_makes_no_sense_is_refused_with_its_fault(name, position, fault):
    with pytest.raises(BadMessage, match=fault):
        decode.joint_values(joint_state(name, position), JOINTS)


def test_an_unfilled_velocity_is_an_error_and_never_zero():
    with pytest.raises(BadMessage, match="choose a field that the driver fills"):
        decode.joint_values(joint_state(JOINTS, [1.0, 2.0, 3.0]), JOINTS, "velocity")


def test_numbers_without_names_must_be_as_many_as_the_yaml_says():
    assert decode.numbers(joint_state([], [1.0, 2.0]), (), 2).tolist() == [1.0, 2.0]
    with pytest.raises(BadMessage, match="3 numbers in the message, wanted 2"):
        decode.numbers(joint_state([], [1.0, 2.0, 3.0]), (), 2)


def pose_message(quaternion, position=(1.0, 2.0, 3.0)):
    place = Message(**dict(zip("xyz", position, strict=True)))
    turn = Message(**dict(zip("xyzw", quaternion, strict=True)))
    return Message(pose=Message(position=place, orientation=turn))


def test_a_pose_is_position_and_a_unit_quaternion_with_w_last():
    row = decode.pose(pose_message((0.0, 0.0, 1.01, 0.0)))
    np.testing.assert_allclose(row, [1.0, 2.0, 3.0, 0.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize("quaternion", [(0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, float("nan"))])
def test_a_quaternion_that_is_no_rotation_is_refused(quaternion):
    with pytest.raises(BadMessage):
        decode.pose(pose_message(quaternion))


RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
PIXELS = {
    "rgb8": RGB,
    "bgr8": RGB[:, :, ::-1],
    "8UC3": RGB[:, :, ::-1],
    "mono8": GREY[:, :, None],
    "rgba8": np.concatenate([RGB, np.zeros((4, 6, 1), np.uint8)], axis=2),
    "bgra8": np.concatenate([RGB[:, :, ::-1], np.zeros((4, 6, 1), np.uint8)], axis=2),
}


def image_message(encoding, padding=0, container=bytes):
    rows = PIXELS[encoding].reshape(4, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Message(encoding=encoding, height=4, width=6, step=padded.shape[1], data=container(padded.tobytes()))


def as_list_of_numbers(data):
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("encoding", PIXELS)
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("container", [bytes, bytearray, as_list_of_numbers, lambda data: array.array("B", data)])
def test_every_encoding_becomes_rgb_whatever_its_padding_and_container(encoding, padding, container):
    wanted = np.repeat(GREY[:, :, None], 3, axis=2) if encoding == "mono8" else RGB
    np.testing.assert_array_equal(decode.image(image_message(encoding, padding, container), (4, 6)), wanted)


def test_a_picture_owns_its_pixels():
    message = image_message("rgb8", container=bytearray)
    picture = decode.image(message, (4, 6))
    message.data[:] = bytes(len(message.data))
    np.testing.assert_array_equal(picture, RGB)


def test_an_unknown_encoding_is_named_with_those_we_read():
    message = image_message("rgb8")
    message.encoding = "bayer_rggb8"
    with pytest.raises(BadMessage, match=r"'bayer_rggb8'.*rgb8, bgr8, mono8"):
        decode.image(message, (4, 6))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 5),
        ("width", 60),
        ("step", 3),
        ("height", 0),
        ("width", 2**31),
        ("height", 2**32 - 1),
        ("step", 2**31),
    ],
)
def test_an_image_whose_header_lies_about_its_data_is_refused(field, value):
    message = image_message("rgb8")
    setattr(message, field, value)
    with pytest.raises(BadMessage):
        decode.image(message, (4, 6))


def test_a_large_image_is_made_smaller_by_averaging():
    checker = np.indices((8, 8)).sum(axis=0) % 2 * 200
    data = np.repeat(checker[:, :, None], 3, axis=2).astype(np.uint8)
    message = Message(encoding="rgb8", height=8, width=8, step=24, data=data.tobytes())
    np.testing.assert_array_equal(decode.image(message, (4, 4)), np.full((4, 4, 3), 100, np.uint8))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_compressed_image_too_large_to_decode_in_time_is_refused_by_its_header(suffix):
    data = cv2.imencode(f".{suffix}", np.zeros((4000, 4000, 3), np.uint8))[1]
    with pytest.raises(BadMessage, match="4000x4000 px, wanted at most"):
        decode.compressed_image(Message(format=suffix, data=data.tobytes()[:2000]), (8, 8))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_images_come_out_as_rgb_of_the_wanted_size(suffix):
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 200
    data = cv2.imencode(suffix, cv2.cvtColor(red, cv2.COLOR_RGB2BGR))[1]
    picture = decode.compressed_image(Message(format=suffix, data=data.tobytes()), (8, 4))
    assert picture.shape == (8, 4, 3)
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), [200, 0, 0], atol=4)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff" + bytes(50)])
def test_bytes_that_are_no_picture_are_refused(data):
    with pytest.raises(BadMessage, match="no readable JPEG or PNG"):
        decode.compressed_image(Message(format="jpeg", data=data), (8, 8))


def test_a_stamp_is_nanoseconds_since_the_epoch():
    header = Message(stamp=Message(sec=1_700_000_000, nanosec=5))
    assert decode.stamp_ns(Message(header=header)) == 1_700_000_000_000_000_005
