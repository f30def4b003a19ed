"""Our client and real rclpy on Fast DDS in one graph: every type that we use arrives both ways, whole and in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("hardware.ros.client")

from tests.hardware.ros.conformance.samples import SAMPLES
from tests.hardware.ros.mixed.exchange import Side
from tests.hardware.ros.mixed.neighbour import Neighbour

pytestmark = pytest.mark.ros
COUNT, HZ = 20, 20.0
NOT_IN_THE_WHEELS = {name for name in SAMPLES if name.startswith("control_msgs/")}


@pytest.fixture
def ours(ros_domain: dict[str, str]) -> Iterator[Side]:
    side = Side("ours")
    yield side
    side.close()


def topics_of(direction: str, types: list[str]) -> dict[str, str]:
    return {f"/{direction}/{name.replace('/', '_')}": name for name in types}


def test_every_message_type_that_we_use_arrives_both_ways(ours: Side, start: Callable[..., Neighbour]):
    neighbour = start()
    types = neighbour.call("types")
    assert set(SAMPLES) - set(types) <= NOT_IN_THE_WHEELS
    sent, got = topics_of("from_us", types), topics_of("to_us", types)
    qos = {"depth": COUNT}
    neighbour.call("listen", topics=sent, qos=qos)
    ours.listen(got, qos)
    ours.offer(sent, qos)
    neighbour.call("offer", topics=got, qos=qos)
    assert ours.matched([*sent]) == [*sent]
    assert neighbour.call("matched", topics=[*got]) == [*got]
    ours.send(sent, COUNT, HZ)
    assert neighbour.call("counts", topics=[*sent], count=COUNT) == dict.fromkeys(sent, COUNT)
    neighbour.call("send", topics=got, count=COUNT, hz=HZ)
    assert ours.counts([*got], COUNT) == dict.fromkeys(got, COUNT)


def test_a_service_that_would_never_answer_is_not_there_and_makes_no_peer_print_errors(
    ours: Side, start: Callable[..., Neighbour], capfd: pytest.CaptureFixture[str]
):
    neighbour = start()
    neighbour.call("serve", name="/greet")
    assert ours.ask("/greet", timeout_s=3.0) == {"there": False, "answered": False}
    assert "/greet is on Fast DDS" in capfd.readouterr().err
    assert "Error" not in neighbour.close()


def test_each_side_knows_the_others_nodes_and_gets_what_it_said_before(ours: Side, start: Callable[..., Neighbour]):
    latched = {"latched": True, "depth": 1}
    types = ["std_msgs/msg/String", "sensor_msgs/msg/JointState"]
    sent, got = topics_of("before", types), topics_of("before_us", types)
    ours.offer(sent, latched)
    ours.send(sent, 1, HZ)
    neighbour = start()
    neighbour.call("offer", topics=got, qos=latched)
    neighbour.call("send", topics=got, count=1, hz=HZ)
    assert "ours" in neighbour.call("nodes", wanted="ours")
    assert "neighbour" in ours.nodes("neighbour")
    assert ours.owners(next(iter(got))) == ["neighbour"]
    neighbour.call("listen", topics=sent, qos=latched)
    ours.listen(got, latched)
    assert neighbour.call("counts", topics=[*sent], count=1) == dict.fromkeys(sent, 1)
    assert ours.counts([*got], 1) == dict.fromkeys(got, 1)
