"""Real ROS 2 environments beside ours, where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("hardware.ros.client")

from hardware.ros.client import BACKEND
from tests.hardware.ros.mixed.neighbour import DISTRIBUTIONS, Neighbour, clean, python_of, variable


@pytest.fixture(params=DISTRIBUTIONS)
def real_python(request: pytest.FixtureRequest) -> Path:
    """The Python of a real ROS 2."""
    if BACKEND != "pip":
        pytest.skip("a mixed graph needs our own client on this side: run it without ROS, or with ROBOT_RL_ROS=pip")
    python = python_of(request.param)
    if python is None:
        pytest.skip(
            f"no real ROS 2 {request.param} here: {variable(request.param)}, which make test-ros sets, is unset"
        )
    return python


@pytest.fixture
def neighbour_environment(ros_domain: dict[str, str]) -> dict[str, str]:
    """What another environment's program needs to join this test's domain."""
    return clean({"ROS_DOMAIN_ID": ros_domain["ROS_DOMAIN_ID"]})


@pytest.fixture
def start(real_python: Path, neighbour_environment: dict[str, str]) -> Iterator[Callable[..., Neighbour]]:
    """Starts the exchange's other side on real rclpy; it is ended after the test."""
    started: list[Neighbour] = []

    def make(name: str = "neighbour", *arguments: str) -> Neighbour:
        started.append(Neighbour(real_python, neighbour_environment, name, arguments))
        return started[-1]

    yield make
    for each in started:
        each.close()
