"""A node with an executor in the test's own domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hardware.ros.conformance.spinning import Bench


@pytest.fixture
def bench(ros_domain: dict[str, str]) -> Iterator[Bench]:
    from tests.hardware.ros.conformance.spinning import Bench

    with Bench(ros_domain) as made:
        yield made
