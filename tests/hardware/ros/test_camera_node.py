from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.cameras.pattern import decode_stamp
from hardware.ros import decode
from tests.hardware.cameras.fake_source import FakeSource

ROOT = Path(__file__).resolve().parents[3]
GIVE_UP_S = 20.0
SIZE = (240, 320)
PERIOD_NS = 50_000_000
PATTERN = {"_target_": "hardware.cameras.pattern.PatternCamera", "width": SIZE[1], "height": SIZE[0], "fps": 20.0}
FAKE = {"_target_": "tests.hardware.cameras.fake_source.make_fake_source", "controls": {"gain": 20.0}}
CALIBRATION = """
image_width: 320
image_height: 240
camera_matrix: {rows: 3, cols: 3, data: [300, 0, 160, 0, 301, 120, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [300, 0, 160, 0, 0, 301, 120, 0, 0, 0, 1, 0]}
"""

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros_domain")]


def ros_arguments(folder: Path, camera: str = "wrist", **settings) -> list[str]:
    """A robot with one camera as JSON, and what a node is started with to run it."""
    config = folder / "robot.json"
    config.write_text(json.dumps({"cameras": {"wrist": {"namespace": "/arm/wrist", **settings}}}))
    return ["--ros-args", "-p", f"config:={config}", "-p", f"camera:={camera}"]


class Listener:
    """A node that keeps what it hears.

    Attributes:
        heard: Topic to messages.
        node: To make more.
    """

    def __init__(self, client: Any, *others: Any) -> None:
        self.node = client.rclpy.create_node("listener")
        self.heard: dict[str, list[Any]] = {}
        self._client = client
        self._executor = client.SingleThreadedExecutor()
        for each in (self.node, *others):
            self._executor.add_node(each)

    def listen(self, topic: str, type_name: str, qos: Any = 10) -> None:
        self.heard[topic] = []
        self.node.create_subscription(self._client.message(type_name), topic, self.heard[topic].append, qos)

    def spin_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while not happened():
            assert time.monotonic() < deadline, {topic: len(each) for topic, each in self.heard.items()}
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


@contextmanager
def running(arguments: list[str]) -> Iterator[tuple[Any, Listener]]:
    """A camera node in this process, and a listener; the executor runs while the listener waits."""
    from hardware.ros import client
    from hardware.ros.camera_node import CameraNode

    client.rclpy.init(args=arguments)
    try:
        node = CameraNode()
        listener = Listener(client, node)
        try:
            yield node, listener
        finally:
            node.close()
            listener.close()
            node.destroy_node()
    finally:
        client.rclpy.shutdown()


def listen_to_images(listener: Listener) -> None:
    from hardware.ros.client import qos_profile_sensor_data

    for topic, name in (
        ("image_raw/compressed", "CompressedImage"),
        ("image_raw", "Image"),
        ("camera_info", "CameraInfo"),
    ):
        listener.listen(f"/arm/wrist/{topic}", f"sensor_msgs/msg/{name}", qos_profile_sensor_data)


def values(status: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_every_picture_arrives_with_the_stamp_that_it_shows(tmp_path):
    with running(ros_arguments(tmp_path, source=PATTERN, publish=["compressed", "raw"])) as (node, listener):
        listen_to_images(listener)
        node.open()
        compressed, raw = listener.heard["/arm/wrist/image_raw/compressed"], listener.heard["/arm/wrist/image_raw"]
        listener.spin_until(lambda: len(compressed) >= 20 and len(raw) >= 20)
        skipped = int(node._reader.state().facts["skipped"])
    for messages, decoder in ((compressed, decode.compressed_image), (raw, decode.image)):
        stamps = [decode.stamp_ns(each) for each in messages]
        assert [decode_stamp(decoder(each, SIZE)) for each in messages] == stamps
        missing = np.rint(np.diff(stamps) / PERIOD_NS).astype(int).sum() - (len(stamps) - 1)
        assert missing <= skipped
    assert {each.header.frame_id for each in compressed} == {"wrist_camera"}
    assert {each.format for each in compressed} == {"jpeg"}


def test_camera_info_has_the_pictures_stamps_and_the_calibration(tmp_path):
    file = tmp_path / "wrist.yaml"
    file.write_text(CALIBRATION)
    arguments = ros_arguments(tmp_path, source=PATTERN, calibration=str(file), frame_id="wrist_optical")
    with running(arguments) as (node, listener):
        listen_to_images(listener)
        node.open()
        infos, images = listener.heard["/arm/wrist/camera_info"], listener.heard["/arm/wrist/image_raw/compressed"]
        listener.spin_until(lambda: {*map(decode.stamp_ns, infos)} & {*map(decode.stamp_ns, images)} != set())
    info = infos[0]
    assert (info.width, info.height, info.distortion_model) == (320, 240, "plumb_bob")
    assert list(info.k) == [300.0, 0.0, 160.0, 0.0, 301.0, 120.0, 0.0, 0.0, 1.0]
    assert list(info.d) == [0.1, -0.2, 0.001, 0.002, 0.0]
    assert info.header.frame_id == "wrist_optical"


def test_a_calibration_for_another_size_ends_the_node(tmp_path):
    file = tmp_path / "wrist.yaml"
    file.write_text(CALIBRATION.replace("320", "640"))
    assert "for 640x240, the camera gives 320x240" in failure(
        ros_arguments(tmp_path, source=PATTERN, calibration=str(file))
    )


def test_unplugging_and_plugging_in_again_show_in_diagnostics(tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.ros.camera_node.DIAGNOSTICS_S", 0.2)
    with running(ros_arguments(tmp_path, source=FAKE, retry_s=0.05)) as (node, listener):
        listener.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        node.open()
        fake = FakeSource.made[-1]
        heard = listener.heard["/diagnostics"]

        def newest() -> Any:
            return heard[-1].status[0]

        listener.spin_until(lambda: bool(heard) and newest().message.endswith(" dropped"))
        assert newest().name == "camera wrist: /arm/wrist"
        assert newest().hardware_id == "fake camera"
        fake.plugged.clear()
        listener.spin_until(lambda: "camera away" in newest().message)
        assert newest().level == newest().ERROR
        assert values(newest())["reconnects"] == "0"
        fake.plugged.set()
        listener.spin_until(lambda: newest().message.endswith(" dropped"))
        assert newest().level != newest().ERROR
        assert values(newest())["reconnects"] == "1"
        assert float(values(newest())["wanted rate [Hz]"]) == fake.fps


def test_a_second_publisher_of_the_same_images_shows_in_diagnostics(tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.ros.camera_node.DIAGNOSTICS_S", 0.2)
    with running(ros_arguments(tmp_path, source=PATTERN)) as (node, listener):
        from hardware.ros.client import message, qos_profile_sensor_data

        listener.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        kind = message("sensor_msgs/msg/CompressedImage")
        listener.node.create_publisher(kind, "/arm/wrist/image_raw/compressed", qos_profile_sensor_data)
        node.open()
        heard = listener.heard["/diagnostics"]
        words = "2 nodes publish on /arm/wrist/image_raw/compressed"
        listener.spin_until(lambda: bool(heard) and words in heard[-1].status[0].message)


def test_a_camera_setting_is_changed_or_refused_with_the_reason(tmp_path):
    with running(ros_arguments(tmp_path, source=FAKE)) as (node, _):
        from hardware.ros.client import Parameter

        node.open()
        fake = FakeSource.made[-1]
        (taken,) = node.set_parameters([Parameter("gain", value=7.0)])
        assert taken.successful
        assert fake.controls["gain"] == 7.0
        (refused,) = node.set_parameters([Parameter("gain", value=700.0)])
        assert not refused.successful
        assert "does not take gain 700" in refused.reason
        assert node.get_parameter("gain").value == 7.0
        together = [Parameter("gain", value=9.0), Parameter("camera", value="scene")]
        assert not node.set_parameters_atomically(together).successful
        assert fake.controls["gain"] == 7.0
        (fixed,) = node.set_parameters([Parameter("camera", value="scene")])
        assert not fixed.successful
        assert "start it again" in fixed.reason


def test_a_setting_given_on_the_command_line_is_what_the_camera_is_opened_with(tmp_path):
    with running([*ros_arguments(tmp_path, source=FAKE), "-p", "gain:=33.0"]) as (node, _):
        node.open()
        assert FakeSource.made[-1].controls == {"gain": 33.0}


def start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hardware.ros.camera_node", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def failure(arguments: list[str]) -> str:
    """What a camera node says that ends by itself with an error, without a traceback."""
    with start(arguments) as process:
        said, _ = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    return said


def test_a_node_without_its_camera_says_which_there_are(tmp_path):
    assert "no camera 'scene' (-p camera:=...); there is wrist" in failure(
        ros_arguments(tmp_path, camera="scene", source=PATTERN)
    )


def test_a_node_whose_camera_is_missing_says_so(tmp_path):
    source = {"_target_": "hardware.cameras.uvc.UvcCamera", "device": "/dev/video-none"}
    assert "camera /dev/video-none: there is no such device" in failure(ros_arguments(tmp_path, source=source))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_end_ends_cleanly(tmp_path, number):
    from hardware.ros import client

    client.rclpy.init(args=[])
    try:
        listener = Listener(client)
        listen_to_images(listener)
        with start(ros_arguments(tmp_path, source=PATTERN)) as process:
            listener.spin_until(lambda: bool(listener.heard["/arm/wrist/image_raw/compressed"]))
            process.send_signal(number)
            said, _ = process.communicate(timeout=GIVE_UP_S)
        listener.close()
    finally:
        client.rclpy.shutdown()
    assert process.returncode == 0, said
    assert "Traceback" not in said
