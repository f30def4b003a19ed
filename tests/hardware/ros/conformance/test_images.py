"""Large images between two processes; counted, and paced by what has arrived rather than by the clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardware.ros.client import QoSProfile, message, qos_profile_sensor_data
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros
WIDTH, HEIGHT, IMAGES = 1280, 720, 60
NEEDED_RMEM = 2 * 1024 * 1024


@pytest.mark.parametrize("qos", [qos_profile_sensor_data, QoSProfile(depth=5)], ids=["best effort", "reliable"])
def test_every_raw_image_of_1280x720_arrives_whole(bench: Bench, qos: QoSProfile):
    rmem_max = int(Path("/proc/sys/net/core/rmem_max").read_text())
    if rmem_max < NEEDED_RMEM:
        pytest.skip(f"net.core.rmem_max is {rmem_max}, images need {NEEDED_RMEM}")
    counter = message("std_msgs/msg/Int32")
    received: list[tuple[int, int]] = []

    def note(image: object) -> None:
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
        assert (pixels == pixels[0, 0, 0]).all()
        received.append((image.header.stamp.sec, int(pixels[0, 0, 0])))
        wanted.publish(counter(data=image.header.stamp.sec + 1))

    wanted = bench.node.create_publisher(counter, "/wanted", 10)
    bench.node.create_subscription(message("sensor_msgs/msg/Image"), "/image", note, qos)
    bench.start("camera", qos.reliability.name, str(WIDTH), str(HEIGHT), str(IMAGES))
    bench.connected(wanted)
    bench.until(lambda: bench.node.count_publishers("/image") == 1)
    wanted.publish(counter(data=0))
    bench.until(lambda: len(received) == IMAGES)
    assert received == [(number, number % 251) for number in range(IMAGES)]
