"""One camera as a ROS node: images with their capture times, their CameraInfo, and 1 Hz diagnostics.

    python -m hardware.ros.camera_node --ros-args -p config:=/path/robot.json -p camera:=wrist

The camera is read in a thread of its own, which publishes; the executor is left to parameters and diagnostics. A
camera that is unplugged is waited for. The node ends by itself only if its settings are wrong, or the camera is not
there when it starts.

Parameters besides `config` and `camera`: the camera settings that the yaml fixes, for example `exposure_ms`. Setting
one is answered when the camera has taken it, or refused with the camera's reason, and then the old value stays.
"""

from __future__ import annotations

import array
import contextlib
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from hardware.cameras.calibration import Calibration, read_calibration
from hardware.cameras.frame_source import ControlRefused, Frame, Picture
from hardware.cameras.reader import CameraReader, CameraState
from hardware.cameras.reopening import ReopeningSource
from hardware.node_config import read_config
from hardware.ros.arm_topics import DIAGNOSTICS, absolute, encode_header
from hardware.ros.camera_settings import COMPRESSED, RAW, read_camera
from hardware.ros.client import (
    ExternalShutdownException,
    Node,
    SignalHandlerOptions,
    SingleThreadedExecutor,
    message,
    qos_profile_sensor_data,
    rclpy,
    require_ros,
)
from robot_rl.core.clock import HostClock
from robot_rl.core.errors import RobotRLError

DIAGNOSTICS_S = 1.0
WAKE_S = 0.2
LEAST_RATE = 0.9
"""Share of the camera's own rate below which diagnostics warn."""

INFO = "info"
TOPICS = {
    RAW: ("image_raw", "sensor_msgs/msg/Image"),
    COMPRESSED: ("image_raw/compressed", "sensor_msgs/msg/CompressedImage"),
    INFO: ("camera_info", "sensor_msgs/msg/CameraInfo"),
}


class CameraNode(Node):
    """Publishes `image_raw/compressed` and/or `image_raw`, and `camera_info`, all with sensor data QoS.

    Raises:
        RobotRLError: No robot or no such camera was given, or its settings make no sense.
    """

    def __init__(self) -> None:
        super().__init__("camera_node")
        config = self.declare_parameter("config", "").value
        self._camera = self.declare_parameter("camera", "").value
        settings = read_camera(read_config(config), self._camera)
        controls = {name: self.declare_parameter(name, value).value for name, value in settings.controls.items()}
        self._settings = settings.with_controls(controls)
        self._stamp_clock = HostClock(lambda: int(self.get_clock().now().nanoseconds))
        source = ReopeningSource(
            self._settings.make_source(self._stamp_clock),
            HostClock(),
            retry_s=self._settings.retry_s,
            silent_s=self._settings.silent_s,
        )
        self._reader = CameraReader(
            source, self._publish, self._stamp_clock, frozen_frames=self._settings.frozen_frames
        )
        self._calibration = read_calibration(self._settings.calibration) if self._settings.calibration else None
        self._info: Any = None
        self._images = {kind: self._publisher(kind) for kind in self._settings.publish}
        self._infos = self._publisher(INFO)
        self._diagnostics = self.create_publisher(DIAGNOSTICS.message(), DIAGNOSTICS.name, DIAGNOSTICS.qos())
        self._opened = contextlib.ExitStack()

    def _publisher(self, kind: str) -> Any:
        topic, type_name = TOPICS[kind]
        return self.create_publisher(
            message(type_name), absolute(self._settings.namespace, topic), qos_profile_sensor_data
        )

    def open(self) -> None:
        """Opens the camera and begins to publish.

        Raises:
            CameraLost: It is not there; names those that are.
            ControlRefused: It does not take a setting of the yaml.
        """
        self._opened.enter_context(self._reader)
        self.add_on_set_parameters_callback(self._change)
        self.create_timer(DIAGNOSTICS_S, self._diagnose)
        self.get_logger().info(f"camera {self._camera} at {self._settings.namespace}: {self._reader.describe()}")

    def close(self) -> None:
        """Stops publishing and releases the camera."""
        self._opened.close()

    def _publish(self, frame: Frame) -> None:
        """Sends one frame; called in the reader's thread."""
        header = encode_header(frame.stamp_ns, self._settings.frame)
        for kind, publisher in self._images.items():
            # Encoding and decoding are most of this node's work, and often nobody listens to one of the two.
            if publisher.get_subscription_count() == 0:
                continue
            if kind == COMPRESSED:
                publisher.publish(compressed_image(header, frame.encoded(self._settings.jpeg_quality)))
            else:
                publisher.publish(raw_image(header, frame.rgb()))
        if self._info is None:
            calibration = self._calibration or Calibration(frame.width, frame.height)
            calibration.require_size(frame.width, frame.height)
            self._info = camera_info(calibration)
        self._info.header = header
        self._infos.publish(self._info)

    def _change(self, parameters: Sequence[Any]) -> Any:
        """Answers a request to set parameters, all or none."""
        result = message("rcl_interfaces/msg/SetParametersResult")
        taken: list[str] = []
        for parameter in parameters:
            try:
                if parameter.name in {"config", "camera"}:
                    raise ControlRefused(f"{parameter.name} is read when the node starts; start it again")
                if parameter.name in self._settings.controls:
                    self._reader.set_control(parameter.name, float(parameter.value))
                    taken.append(parameter.name)
            except ControlRefused as error:
                self.get_logger().warning(str(error))
                for name in taken:
                    self._reader.set_control(name, float(self.get_parameter(name).value))
                return result(successful=False, reason=str(error))
        return result(successful=True)

    def _diagnose(self) -> None:
        """Says how the camera does; a fault of the reader ends the node here."""
        state = self._reader.state()
        status = diagnostic_status(self._camera, self._settings.namespace, state, self._reader.fps)
        topic = absolute(self._settings.namespace, TOPICS[self._settings.publish[0]][0])
        publishers = self.count_publishers(topic)
        if publishers > 1:
            status.level = status.ERROR
            status.message = f"{publishers} nodes publish on {topic}: stop all but one, or give each its own namespace"
        header = encode_header(self._stamp_clock.now_ns(), "")
        self._diagnostics.publish(DIAGNOSTICS.message()(header=header, status=[status]))


def compressed_image(header: Any, jpeg: bytes) -> Any:
    """A CompressedImage."""
    return message("sensor_msgs/msg/CompressedImage")(header=header, format="jpeg", data=_bytes(jpeg))


def raw_image(header: Any, image: Picture) -> Any:
    """An Image of a picture of shape (height, width, 3)."""
    height, width, channels = image.shape
    return message("sensor_msgs/msg/Image")(
        header=header,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=channels * width,
        data=_bytes(image.tobytes()),
    )


def camera_info(calibration: Calibration) -> Any:
    """A CameraInfo without its header; matrices of zeros mean uncalibrated, as its definition says."""
    return message("sensor_msgs/msg/CameraInfo")(
        width=calibration.width,
        height=calibration.height,
        distortion_model=calibration.distortion_model,
        d=list(calibration.distortion),
        k=list(calibration.camera_matrix),
        r=list(calibration.rectification_matrix),
        p=list(calibration.projection_matrix),
    )


def diagnostic_status(name: str, namespace: str, state: CameraState, fps: float) -> Any:
    """A camera's state in words and numbers for people."""
    status = message("diagnostic_msgs/msg/DiagnosticStatus")
    report, trouble = state.report, state.trouble
    if not trouble and report.frames == 0 and fps > 1.0 / DIAGNOSTICS_S:
        trouble = "no frame for a second"
    slow = report.rate_hz < LEAST_RATE * fps
    level = status.ERROR if trouble else status.WARN if slow or report.drops or report.repeated else status.OK
    values = {
        "rate [Hz]": f"{report.rate_hz:.2f}",
        "wanted rate [Hz]": f"{fps:g}",
        "jitter [ms]": f"{report.jitter_ms:.2f}",
        "longest gap [ms]": f"{report.longest_gap_ms:.1f}",
        "capture to publishing [ms]": f"{report.latency_ms:.1f}",
        "frames": str(state.frames),
        "drops": str(state.drops),
        "drops in the last second": str(report.drops),
        "repeated in the last second": str(report.repeated),
        "withheld": str(state.withheld),
        "damaged": str(state.damaged),
        "reconnects": str(state.reconnects),
    }
    values |= {key: value for key, value in state.facts.items() if key not in values}
    return status(
        level=level,
        name=f"camera {name}: {namespace}",
        message=trouble or f"{report.rate_hz:.1f} of {fps:g} Hz, {report.drops} dropped",
        hardware_id=state.facts.get("source", ""),
        values=_key_values(values),
    )


def _key_values(values: Mapping[str, str]) -> list[Any]:
    pair = message("diagnostic_msgs/msg/KeyValue")
    return [pair(key=key, value=value) for key, value in values.items()]


def _bytes(data: bytes) -> Any:
    # rclpy takes an array.array as it is, and checks every element of anything else.
    return array.array("B", data)


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is told to end; returns the process's exit status."""
    require_ros()
    told_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told_to_end.set())
    # rclpy's own handlers would end the graph under a frame that is being published.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node: CameraNode | None = None
    executor = SingleThreadedExecutor()
    try:
        node = CameraNode()
        node.open()
        executor.add_node(node)
        while not told_to_end.is_set():
            executor.spin_once(timeout_sec=WAKE_S)
    except ExternalShutdownException:
        return 0
    except RobotRLError as error:
        sys.stderr.write(f"camera_node: {error}\n")
        return 1
    finally:
        if node is not None:
            node.close()
        executor.shutdown()
        if node is not None:
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
