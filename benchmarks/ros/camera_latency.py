"""Capture to subscriber: latency and loss of camera nodes end to end, without cameras.

    python -m benchmarks.ros.camera_latency [--seconds 20] [--sizes 640x480 1280x720] [--cameras 1 2] \
        [--publish compressed]

Every camera node is a process of its own that draws the pattern, which carries its capture time in the picture, and
publishes it as it would a camera's. One subscriber process takes all of them, decodes each picture and reads the time
in it. Loss is judged by that time as well: captures lie on a grid of 1/30 s, and each that never arrives is lost,
whether the node skipped it or the network dropped it.

Columns: latency from capture to the subscriber's callback and to the decoded picture; frames lost; frames whose header
claims another time than their picture (must be 0); processor time of each node and of the subscriber, as a share of
one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hardware.cameras.pattern import decode_stamp
from hardware.ros import decode
from hardware.ros.client import message, qos_profile_sensor_data, rclpy
from robot_rl.core.specs import NS_PER_S

FPS = 30.0
WARM_UP_S = 2.0
START_S = 30.0
TOPICS = {
    "compressed": ("image_raw/compressed", "sensor_msgs/msg/CompressedImage", decode.compressed_image),
    "raw": ("image_raw", "sensor_msgs/msg/Image", decode.image),
}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Camera:
    """What one camera's pictures said.

    Attributes:
        decode: From a message and a size (height, width) to a picture.
        size: Height and width [px].
        counting: Whether frames count already.
        stamps_ns: Capture times, from the pictures.
        received_ms: Capture to callback.
        decoded_ms: Capture to decoded picture.
        liars: Pictures whose time is not their header's.
    """

    decode: Callable[[Any, Sequence[int]], Any]
    size: tuple[int, int]
    counting: bool = False
    seen: int = 0
    stamps_ns: list[int] = field(default_factory=list)
    received_ms: list[float] = field(default_factory=list)
    decoded_ms: list[float] = field(default_factory=list)
    liars: int = 0

    def take(self, received: Any, now_ns: Callable[[], int]) -> None:
        """Takes a message."""
        arrived_ns = now_ns()
        stamp_ns = decode_stamp(self.decode(received, self.size))
        decoded_ns = now_ns()
        self.seen += 1
        if not self.counting:
            return
        self.stamps_ns.append(stamp_ns)
        self.received_ms.append((arrived_ns - stamp_ns) / 1e6)
        self.decoded_ms.append((decoded_ns - stamp_ns) / 1e6)
        self.liars += stamp_ns != decode.stamp_ns(received)

    def lost(self) -> int:
        """Captures between the first and the last picture that never arrived."""
        gaps = np.diff(np.array(self.stamps_ns, dtype=np.int64)) * FPS / NS_PER_S
        return int(np.rint(gaps).sum()) - len(gaps)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def camera_nodes(count: int, size: tuple[int, int], publish: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Camera nodes showing the pattern, ended with SIGTERM."""
    pattern = {"_target_": "hardware.cameras.pattern.PatternCamera", "fps": FPS, "height": size[0], "width": size[1]}
    names = [f"camera_{index}" for index in range(count)]
    cameras = {name: {"namespace": f"/benchmark/{name}", "source": pattern, "publish": [publish]} for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "robot.json"
        config.write_text(json.dumps({"cameras": cameras}))
        nodes = [subprocess.Popen(command(config, name)) for name in names]
        try:
            yield nodes
        finally:
            for node in nodes:
                node.send_signal(signal.SIGTERM)
            for node in nodes:
                node.wait(START_S)


def command(config: Path, camera: str) -> list[str]:
    """How a camera node is started."""
    parameters = [f"config:={config}", f"camera:={camera}"]
    arguments = itertools.chain.from_iterable(("-p", each) for each in parameters)
    module = [sys.executable, "-m", "hardware.ros.camera_node"]
    return [*module, "--ros-args", *arguments, "-r", f"__node:={camera}"]


def spin(node: Any, until: Callable[[], bool], nodes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Serves callbacks until something holds; stops if a node has died."""
    while not until():
        rclpy.spin_once(node, timeout_sec=0.05)
        if any(each.poll() is not None for each in nodes):
            raise SystemExit("a camera node ended; see its lines above")


def measure(count: int, size: tuple[int, int], publish: str, seconds: float) -> list[str]:
    """One row of the table."""
    topic, type_name, decoder = TOPICS[publish]
    node = rclpy.create_node("camera_latency")
    cameras = [Camera(decoder, size) for _ in range(count)]

    def now_ns() -> int:
        return int(node.get_clock().now().nanoseconds)

    for index, camera in enumerate(cameras):
        name = f"/benchmark/camera_{index}/{topic}"
        node.create_subscription(
            message(type_name), name, lambda each, camera=camera: camera.take(each, now_ns), qos_profile_sensor_data
        )
    with camera_nodes(count, size, publish) as nodes:
        give_up = time.monotonic() + START_S
        spin(node, lambda: all(each.seen for each in cameras) or time.monotonic() > give_up, nodes)
        if not all(each.seen for each in cameras):
            raise SystemExit(f"no picture of every camera within {START_S:.0f} s")
        warm = time.monotonic() + WARM_UP_S
        spin(node, lambda: time.monotonic() > warm, nodes)
        for camera in cameras:
            camera.counting = True
        before, own, start = [cpu_s(each.pid) for each in nodes], time.process_time(), time.monotonic()
        spin(node, lambda: time.monotonic() > start + seconds, nodes)
        took = time.monotonic() - start
        shares = [(cpu_s(each.pid) - used) / took for each, used in zip(nodes, before, strict=True)]
        own_share = (time.process_time() - own) / took
    node.destroy_node()
    received = np.concatenate([each.received_ms for each in cameras])
    decoded = np.concatenate([each.decoded_ms for each in cameras])
    return [
        f"{size[1]}x{size[0]}",
        str(count),
        publish,
        *(f"{value:.1f}" for value in np.percentile(received, [50, 99, 100])),
        *(f"{value:.1f}" for value in np.percentile(decoded, [50, 99])),
        f"{sum(each.lost() for each in cameras)} of {len(received)}",
        str(sum(each.liars for each in cameras)),
        ", ".join(f"{100 * share:.0f} %" for share in shares),
        f"{100 * own_share:.0f} %",
    ]


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring per row")
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=[(480, 640), (720, 1280)], metavar="WxH")
    parser.add_argument("--cameras", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--publish", nargs="+", choices=TOPICS, default=["compressed"])
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, pattern at {FPS:g} Hz, ", end="")
    print(f"{arguments.seconds:g} s per row; milliseconds\n")
    print("| size | cameras | as | p50 | p99 | max | decoded p50 | p99 | lost | liars | CPU per node | subscriber |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    rclpy.init(args=[])
    try:
        for publish, size, count in itertools.product(arguments.publish, arguments.sizes, arguments.cameras):
            print("| " + " | ".join(measure(count, size, publish, arguments.seconds)) + " |", flush=True)
    finally:
        rclpy.shutdown()


if __name__ == "__main__":
    main()
