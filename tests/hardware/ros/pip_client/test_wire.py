"""What was proven to interoperate with rclpy on rmw_cyclonedds, checked on the wire without our own decoder."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cyclonedds")

from cyclonedds.core import DDSException
from cyclonedds.qos import Policy

from hardware.ros.client import (
    BACKEND,
    DurabilityPolicy,
    ExternalShutdownException,
    Node,
    QoSProfile,
    message,
    rclpy,
    srv,
)
from hardware.ros.pip_client.messages import decode, define_message, encode, type_hash
from hardware.ros.pip_client.qos import to_dds
from hardware.ros.pip_client.transport import Participant, Reader, Writer
from tests.hardware.ros.conformance.spinning import ROOT, Bench

pytestmark = [pytest.mark.ros, pytest.mark.skipif(BACKEND != "pip", reason="about our own client")]


@pytest.fixture
def peer(ros_domain: dict[str, str]) -> Iterator[Participant]:
    """A second participant of the domain, as another process would be."""
    participant = Participant(int(ros_domain["ROS_DOMAIN_ID"]))
    yield participant
    participant.close()


@pytest.fixture
def bench(ros_domain: dict[str, str]) -> Iterator[Bench]:
    with Bench(ros_domain) as made:
        yield made


def test_a_message_is_little_endian_xcdr1_padded_to_four_bytes():
    header = message("std_msgs/msg/Header")
    sample = header(stamp=message("builtin_interfaces/msg/Time")(sec=1, nanosec=2), frame_id="base")
    wanted = bytes.fromhex("00010000 01000000 02000000 05000000") + b"base\0" + bytes(3)
    assert encode(sample) == wanted
    assert decode(wanted, header) == sample


def test_numbers_are_aligned_to_their_size_from_the_headers_end():
    joint_state = message("sensor_msgs/msg/JointState")(name=["a"], position=[1.5])
    body = bytes(encode(joint_state))[4:]
    assert struct.unpack_from("<I", body, 28) == (1,)
    assert struct.unpack_from("<d", body, 32) == (1.5,)


def test_a_big_endian_message_is_understood():
    data = bytes.fromhex("00000000 00000001 00000002 00000005") + b"base\0" + bytes(3)
    assert decode(data, message("std_msgs/msg/Header")).frame_id == "base"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("std_msgs/msg/String", "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"),
        ("sensor_msgs/msg/JointState", "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"),
    ],
)
def test_type_hashes_are_jazzys(name: str, wanted: str):
    assert type_hash(name) == wanted


def test_topics_types_and_user_data_are_named_as_rmw_names_them(bench: Bench):
    bench.node.create_publisher(message("sensor_msgs/msg/JointState"), "joint_states", 1)
    bench.until(lambda: bench.node.count_publishers("joint_states"))
    (found,) = [s for s in bench.node.context.graph.writers() if s.topic_name == "rt/test/joint_states"]
    assert found.type_name == "sensor_msgs::msg::dds_::JointState_"
    hashed = f"typehash={type_hash('sensor_msgs/msg/JointState')};"
    assert found.qos[Policy.Userdata].data == hashed.encode()
    assert found.qos[Policy.DataRepresentation] == Policy.DataRepresentation(True, False)


def test_services_are_two_topics_named_as_rmw_names_them(bench: Bench):
    bench.node.create_service(srv("std_srvs/srv/Trigger"), "home", lambda _, response: response)
    writers = {s.topic_name: s.type_name for s in bench.node.context.graph.writers()}
    readers = {s.topic_name: s.type_name for s in bench.node.context.graph.readers()}
    assert readers["rq/test/homeRequest"] == "std_srvs::srv::dds_::Trigger_Request_"
    assert writers["rr/test/homeReply"] == "std_srvs::srv::dds_::Trigger_Response_"


def test_a_request_starts_with_the_clients_id_and_a_sequence_number(bench: Bench, peer: Participant):
    client = bench.node.create_client(srv("std_srvs/srv/SetBool"), "switch")
    reader = Reader(
        peer, "rq/test/switchRequest", "std_srvs/srv/SetBool_Request", to_dds(QoSProfile(depth=9), writer=False)
    )
    bench.until(lambda: client.writer.matched() == 1)
    for data in (True, False):
        client.call_async(srv("std_srvs/srv/SetBool").Request(data=data))
    taken: list[bytes] = []
    bench.until(lambda: len(taken.extend(reader.take(2)) or taken) == 2)
    guid = client.writer.instance_handle
    assert 0 <= guid < 2**64
    assert [data[4:21] for data in taken] == [struct.pack("<Qq?", guid, 1, True), struct.pack("<Qq?", guid, 2, False)]


def test_an_empty_request_carries_one_byte():
    assert len(encode(srv("std_srvs/srv/Empty").Request())) == 8


@pytest.mark.parametrize(("distro", "gid_bytes"), [("jazzy", 16), ("humble", 24), ("", 16)])
def test_participant_ids_have_the_distributions_size(distro: str, gid_bytes: int):
    code = (
        "from hardware.ros.pip_client.messages import message_class; import sys; "
        "sys.stdout.write(str(len(message_class('rmw_dds_common/msg/Gid')().data)))"
    )
    environment = {"ROS_DISTRO": distro, "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == gid_bytes


def test_reliable_writers_never_wait_without_end():
    for profile in (QoSProfile(depth=1), QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)):
        policy = to_dds(profile, writer=True)[Policy.Reliability.Reliable]
        assert 0 < policy.max_blocking_time <= 1_000_000_000


def test_latched_writers_keep_their_depth_for_late_readers():
    profile = QoSProfile(depth=3, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    assert to_dds(profile, writer=True)[Policy.DurabilityService].history == Policy.History.KeepLast(3)


def test_services_do_not_dispose_of_their_data():
    qos = to_dds(QoSProfile(depth=3), writer=True, keep_instance=True)
    assert qos[Policy.WriterDataLifecycle] == Policy.WriterDataLifecycle(autodispose=False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\1\0",
        b"\0\1\0\0",
        b"\0\7\0\0" + bytes(60),
        b"\0\1\0\0" + b"\xff" * 64,
        b"\0\1\0\0" + bytes(8) + b"\x01\0\0\0\xff" + bytes(7),
        b"\0\1\0\0" + bytes(12) + struct.pack("<I", 2**31) + bytes(16),
        bytes(4096),
    ],
)
def test_malformed_bytes_are_refused_as_such(data: bytes):
    with pytest.raises(ValueError, match="sensor_msgs/msg/JointState"):
        decode(data, message("sensor_msgs/msg/JointState"))


def test_a_malformed_message_is_dropped_with_a_warning(
    bench: Bench, peer: Participant, capfd: pytest.CaptureFixture[str]
):
    joint_state = message("sensor_msgs/msg/JointState")
    got = bench.collect(joint_state, "/joint_states", 10)
    writer = Writer(peer, "rt/joint_states", "sensor_msgs/msg/JointState", to_dds(QoSProfile(depth=10), writer=True))
    bench.until(lambda: writer.matched() == 1)
    writer.write(encode(joint_state(name=["q"])).replace(b"q", b"\xff"))
    writer.write(encode(joint_state(name=["a"])))
    bench.until(lambda: got)
    assert [list(msg.name) for msg in got] == [["a"]]
    assert "Malformed message on /joint_states" in capfd.readouterr().err


def test_bytes_that_are_no_message_of_the_topics_type_never_leave(peer: Participant):
    writer = Writer(peer, "rt/joint_states", "sensor_msgs/msg/JointState", to_dds(QoSProfile(depth=10), writer=True))
    with pytest.raises(DDSException):
        writer.write(b"\0\1\0\0" + b"\xff" * 64)


def test_a_participant_that_announces_nonsense_is_ignored(bench: Bench, peer: Participant):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    kind = "rmw_dds_common/msg/ParticipantEntitiesInfo"
    writer = Writer(peer, "ros_discovery_info", kind, to_dds(latched, writer=True))
    bench.until(lambda: writer.matched() == 1)
    announced = message(kind)(node_entities_info_seq=[message("rmw_dds_common/msg/NodeEntitiesInfo")(node_name="q")])
    writer.write(encode(announced).replace(b"q", b"\xff"))
    other = Node("other")
    bench.until(lambda: set(bench.node.get_node_names()) == {"bench", "other"})
    other.destroy_node()


def test_a_vendors_type_can_be_defined():
    made = define_message("vendor_msgs/msg/Status", "std_msgs/Header header\nuint8 mode\nfloat32[3] force")
    sample: Any = made(mode=2, force=[1.0, 2.0, 3.0])
    assert decode(encode(sample), made) == sample
    assert define_message("vendor_msgs/msg/Status", "uint8 other") is made


def test_notices_without_data_are_passed_over(bench: Bench, peer: Participant):
    boolean = message("std_msgs/msg/Bool")
    got = bench.collect(boolean, "/flag", 10)
    writer = Writer(peer, "rt/flag", "std_msgs/msg/Bool", to_dds(QoSProfile(depth=10), writer=True))
    bench.until(lambda: writer.matched() == 1)
    writer.write(encode(boolean(data=True)))
    bench.until(lambda: got)
    writer.close()
    bench.until(lambda: bench.node.count_publishers("/flag") == 0)
    bench.executor.spin_once(timeout_sec=0.05)
    assert len(got) == 1


def test_a_callback_that_publishes_after_shutdown_ends_spinning_as_the_shutdown_does(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    publisher = bench.node.create_publisher(boolean, "flag", 1)

    def shut_down_and_publish() -> None:
        rclpy.shutdown()
        publisher.publish(boolean())

    bench.node.create_timer(0.001, shut_down_and_publish)
    with pytest.raises(ExternalShutdownException):
        bench.until(lambda: False)


def test_the_shipped_profile_is_one_that_cyclonedds_takes(ros_domain: dict[str, str]):
    for local in ({}, {"ROS_LOCALHOST_ONLY": "1"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}):
        environment = {**ros_domain, **local}
        del environment["CYCLONEDDS_URI"]
        code = (
            "from hardware.ros.client import Node, message, rclpy; rclpy.init(args=[]); node = Node('n'); "
            "node.create_publisher(message('std_msgs/msg/Bool'), 'a', 1); node.destroy_node(); rclpy.shutdown()"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, ""), local


def test_two_contexts_of_one_process_share_the_profile(ros_domain: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    from hardware.ros.client import Context

    monkeypatch.delenv("CYCLONEDDS_URI")
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    contexts = [Context(), Context()]
    nodes = []
    for index, context in enumerate(contexts):
        rclpy.init(args=[], context=context)
        nodes.append(Node(f"node_{index}", context=context))
    for node, context in zip(nodes, contexts, strict=True):
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_the_private_entry_points_are_where_the_pinned_version_has_them():
    from importlib.metadata import version

    from cyclonedds import _clayer

    pinned = (Path(ROOT) / "requirements.txt").read_text()
    assert f"cyclonedds=={version('cyclonedds')};" in pinned
    assert callable(_clayer.ddspy_write)
    assert callable(_clayer.ddspy_take)
