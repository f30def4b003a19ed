"""The doctor says with what nodes would speak ROS, whom that reaches, and what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.commands.doctor import ros
from robot_rl.commands.doctor.findings import ProbeFailed, Status


def answer(backend: str | None, *problems: str):
    return lambda: {"backend": backend, "problems": list(problems)}


def test_either_client_will_do():
    assert ros.client({"ROS_DISTRO": "jazzy"}, answer("rclpy")).detail == "nodes use rclpy, ROS jazzy is sourced"
    own = ros.client({}, answer("pip"))
    assert (own.status, own.detail) == (Status.OK, "nodes use our own client on cyclonedds and rosbags")


def test_a_sourced_ros_for_another_python_is_no_harm():
    finding = ros.client({"ROS_DISTRO": "humble"}, answer("pip"))
    assert finding.status is Status.OK
    assert "no rclpy for this Python" in finding.detail


def test_a_missing_wheel_blocks_nothing_and_names_its_remedy():
    finding = ros.client({}, answer(None, "ROS 2 is not available: no rclpy. Next: pip install cyclonedds"))
    assert (finding.status, finding.remedy) == (Status.MISSING, "pip install cyclonedds")
    assert not finding.is_blocking
    assert "need none" in finding.detail


def test_small_receive_buffers_are_a_warning_with_the_command_that_changes_them():
    small = "net.core.rmem_max is 212992, images need more. Next: sudo sysctl -w net.core.rmem_max=4194304"
    finding = ros.client({}, answer("pip", small, "something else"))
    assert finding.status is Status.WARN
    assert finding.remedy == "sudo sysctl -w net.core.rmem_max=4194304"
    assert "212992" in finding.detail
    assert "something else" in finding.detail


def test_a_client_that_crashes_is_a_finding():
    def crash() -> dict:
        raise ProbeFailed("its process was killed by SIGSEGV")

    assert "SIGSEGV" in ros.client({}, crash).detail
    assert "ROBOT_RL_ROS=pip" in ros.client({"ROS_DISTRO": "humble"}, crash).remedy


@pytest.mark.parametrize(
    ("environment", "status", "word"),
    [
        ({}, Status.OK, "no ROS is sourced"),
        (
            {"ROS_DISTRO": "jazzy"},
            Status.WARN,
            "rmw_fastrtps_cpp, the default; topics reach our own client, services do",
        ),
        ({"ROS_DISTRO": "jazzy", "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, Status.OK, "rmw_fastrtps_cpp"),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, Status.OK, "rmw_cyclonedds_cpp"),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, Status.WARN, "do not hear each other"),
    ],
)
def test_a_middleware_that_cannot_be_heard_is_named(environment, status, word):
    finding = ros.middleware(environment)
    assert finding.status is status
    assert word in finding.detail


def test_a_key_that_an_older_cyclonedds_does_not_start_with_is_named():
    uri = "<CycloneDDS><Domain><Compatibility><IgnoreTypeInformation>1.15</IgnoreTypeInformation></Compatibility>"
    cyclone = {"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    finding = ros.middleware(cyclone | {"CYCLONEDDS_URI": uri})
    assert (finding.status, "does not start" in finding.detail) == (Status.WARN, True)
    assert ros.middleware(cyclone | {"CYCLONEDDS_URI": "<CycloneDDS/>"}).status is Status.OK


ANY = {"ROBOT_RL_INTERFACE": "any"}


def machine(root: Path, **interfaces: tuple[str, int]) -> Path:
    for name, (state, flags) in interfaces.items():
        place = root / "sys/class/net" / name
        place.mkdir(parents=True)
        (place / "operstate").write_text(f"{state}\n")
        (place / "flags").write_text(f"{flags:#x}\n")
    return root


def test_one_network_is_well_and_of_several_one_may_have_to_be_named(tmp_path):
    one = machine(tmp_path / "one", lo=("unknown", 0x9), eth0=("up", 0x1003), eth1=("down", 0x1002))
    assert ros.network(ANY, one).detail == "domain 0 over eth0"
    two = machine(tmp_path / "two", eth0=("up", 0x1003), wlan0=("up", 0x1003))
    finding = ros.network(ANY | {"ROS_DOMAIN_ID": "7"}, two)
    assert (finding.status, finding.detail) == (Status.WARN, "domain 7 over eth0, wlan0; DDS takes one of them")
    assert ros.network({"CYCLONEDDS_URI": "file:///x"}, two).status is Status.OK


def test_who_names_no_interface_is_told_that_nobody_beyond_this_computer_is_reached(tmp_path):
    alone = ros.network({}, tmp_path)
    assert (alone.status, "this computer alone" in alone.detail, "robot.interface" in alone.detail) == (
        Status.OK,
        True,
        True,
    )
    assert ros.network({"ROBOT_RL_INTERFACE": "10.1.2.3"}, tmp_path).detail == "domain 0 over 10.1.2.3"


def test_images_lost_by_default_are_told_with_the_variable_that_brings_them():
    finding = ros.middleware({"ROS_DISTRO": "jazzy"})
    assert "uncompressed images" in finding.detail
    assert "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA" in finding.remedy


def test_a_machine_without_multicast_is_told_about_peers(tmp_path):
    assert "Peers" in ros.network(ANY, machine(tmp_path, lo=("unknown", 0x9))).remedy


@pytest.mark.parametrize("domain", ["-1", "102", "robot"])
def test_a_domain_that_is_none_is_named(domain, tmp_path):
    assert repr(domain) in ros.network({"ROS_DOMAIN_ID": domain}, tmp_path).detail


@pytest.mark.parametrize("setting", [{"ROS_LOCALHOST_ONLY": "1"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}])
def test_a_ros_that_stays_at_home_cannot_reach_a_robot_and_says_so(setting, tmp_path):
    finding = ros.network(setting, tmp_path)
    assert finding.status is Status.WARN
    assert "stay on this computer" in finding.detail


def test_this_machine_gets_an_answer():
    assert set(ros.ask_client()) == {"backend", "problems"}
