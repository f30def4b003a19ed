"""Our client and real rclpy on Fast DDS in one graph: every type that we use arrives both ways, whole and in full."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("hardware.ros.client")

from hardware.ros.topic_checks import why_silent
from tests.hardware.ros.conformance.samples import SAMPLES
from tests.hardware.ros.mixed.exchange import Side
from tests.hardware.ros.mixed.neighbour import Neighbour, variable

pytestmark = pytest.mark.ros
COUNT, HZ = 20, 20.0
PICTURES, PICTURE_HZ, PIXELS = 30, 5.0, (1280, 720)
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


def test_a_profile_that_makes_us_deaf_is_named_as_the_reason(
    ros_domain: dict[str, str], real_python: Path, start: Callable[..., Neighbour], monkeypatch: pytest.MonkeyPatch
):
    if os.environ.get(variable("kilted")) != str(real_python):
        pytest.skip("only Fast DDS 3, which Kilted has, sends type information that CycloneDDS refuses")
    deaf = "<CycloneDDS><Domain><Compatibility><IgnoreTypeInformation>1.3</IgnoreTypeInformation></Compatibility>"
    monkeypatch.setenv("CYCLONEDDS_URI", f"{ros_domain['CYCLONEDDS_URI']},{deaf}</Domain></CycloneDDS>")
    side, neighbour = Side("deaf"), start()
    try:
        topics = topics_of("unheard", ["sensor_msgs/msg/JointState"])
        neighbour.call("offer", topics=topics, qos={})
        side.listen(topics, {})
        neighbour.call("send", topics=topics, count=COUNT, hz=HZ)
        assert side.counts([*topics], COUNT) == dict.fromkeys(topics, 0)
        (subscription,) = [each for each in side.node.subscriptions if each.topic_name in topics]
        assert "write <Compatibility><IgnoreTypeInformation>1.15,1.3</" in why_silent(subscription, is_image=False)
    finally:
        side.close()


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


def test_best_effort_pictures_arrive_between_nodes_on_rclpy_as_up_starts_them(start: Callable[..., Neighbour]):
    sender, reader = start("sender", "as_up"), start("reader", "as_up")
    topics, qos = {"/picture": "sensor_msgs/msg/Image"}, {"reliable": False, "depth": 5}
    sender.call("offer", topics=topics, qos=qos)
    reader.call("listen", topics=topics, qos=qos, pixels=PIXELS)
    assert sender.call("matched", topics=[*topics]) == [*topics]
    sender.call("send", topics=topics, count=PICTURES, hz=PICTURE_HZ, pixels=PIXELS)
    # Of Fast DDS's defaults it is 0 to 5; a machine busy with other tests may lose one.
    assert reader.call("counts", topics=[*topics], count=PICTURES)["/picture"] > 0.8 * PICTURES


def test_reliable_pictures_from_us_arrive_at_nodes_on_rclpy_as_up_starts_them(
    ours: Side, start: Callable[..., Neighbour]
):
    reader = start("reader", "as_up")
    topics, qos = {"/picture": "sensor_msgs/msg/Image"}, {"depth": 5}
    ours.offer(topics, qos)
    reader.call("listen", topics=topics, qos=qos, pixels=(640, 480))
    assert ours.matched([*topics]) == [*topics]
    ours.send(topics, PICTURES, PICTURE_HZ, (640, 480))
    assert reader.call("counts", topics=[*topics], count=PICTURES)["/picture"] > 0.8 * PICTURES
