"""ROS stays on this computer unless a robot's yaml names an interface, on any middleware; what users set stays."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from hardware.ros import network
from hardware.ros.network import FAST_PROFILE, FAST_VARIABLES, address_of, describe, fast_profile, join
from hardware.ros.pip_client.profile import ANY, LOOPBACK, address_of_environment, configuration
from robot_rl.core.errors import RobotRLError

CYCLONE = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
HERE = {"lo": LOOPBACK, "eth0": "10.1.2.3", "eth1": "192.168.56.10", "wlan0": "10.1.9.9"}


@pytest.fixture(autouse=True)
def this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "addresses", lambda: HERE)


def joined(interface: str | None, **environment: str) -> dict[str, str]:
    join(interface, environment)
    return environment


def test_whoever_names_no_interface_stays_on_this_computer(tmp_path: Path):
    environment = joined(None)
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert address_of_environment(environment) == LOOPBACK
    assert 'address="127.0.0.1"' in configuration(environment)
    (profile,) = {environment[name] for name in FAST_VARIABLES if name in environment}
    assert allowed(Path(profile)) == [LOOPBACK]
    assert 'address="127.0.0.1"' in joined(None, **CYCLONE)["CYCLONEDDS_URI"]
    assert describe(environment) == "every program on this computer"


@pytest.mark.parametrize("interface", ["eth1", "192.168.56.0/24", "192.168.56.10"])
def test_a_named_interface_is_talked_over_and_no_other(interface: str, tmp_path: Path):
    environment = joined(interface, XDG_CACHE_HOME=str(tmp_path))
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    assert address_of_environment(environment) == "192.168.56.10"
    assert '<NetworkInterface address="192.168.56.10"/>' in configuration(environment)
    (profile,) = {environment[name] for name in FAST_VARIABLES if name in environment}
    assert allowed(Path(profile)) == [LOOPBACK, "192.168.56.10"]
    assert "192.168.56.10" in joined(interface, **CYCLONE)["CYCLONEDDS_URI"]
    assert "192.168.56.10" in describe(environment)


def test_any_lets_the_middleware_choose(tmp_path: Path):
    environment = joined(ANY, XDG_CACHE_HOME=str(tmp_path))
    assert "NetworkInterface" not in configuration(environment)
    assert allowed(fast_profile(ANY, environment)) == []
    assert "any network" in describe(environment)


@pytest.mark.parametrize("interface", ["eth7", "10.9.9.9", "10.1.0.0/16", "300.1.1.1/99", ""])
def test_an_interface_that_is_not_one_of_this_computer_is_refused_and_those_that_are_are_named(interface: str):
    with pytest.raises(RobotRLError, match=r"eth1 \(192\.168\.56\.10\)"):
        address_of(interface)


def test_what_the_user_has_set_stays():
    own = {
        "CYCLONEDDS_URI": "<mine/>",
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    }
    assert joined(None, **own, **CYCLONE) == {**own, **CYCLONE}
    assert joined(None, **own) == own
    assert address_of_environment({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}) == ANY
    assert address_of_environment({"ROBOT_RL_INTERFACE": "10.1.2.3"}) == "10.1.2.3"
    assert joined(None, ROBOT_RL_INTERFACE="eth0")["ROBOT_RL_INTERFACE"] == "10.1.2.3"


def test_a_robot_that_names_a_network_has_it_after_one_that_named_none(tmp_path: Path):
    for middleware in ({}, CYCLONE):
        environment = {**middleware, "XDG_CACHE_HOME": str(tmp_path)}
        for interface, wanted in ((None, LOOPBACK), ("eth1", "192.168.56.10"), (None, "192.168.56.10")):
            join(interface, environment)
            said = (
                environment.get("CYCLONEDDS_URI")
                or Path(next(environment[name] for name in FAST_VARIABLES if name in environment)).read_text()
            )
            assert wanted in said
            assert describe(environment).endswith("this computer" if wanted == LOOPBACK else wanted) or middleware


def test_this_computers_interfaces_are_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert network.addresses()["lo"] == LOOPBACK


def test_the_shipped_profile_has_room_for_images():
    tree = ElementTree.parse(FAST_PROFILE)
    assert [int(each.text or 0) for each in tree.iter() if each.tag.endswith("segment_size")] == [32 * 1024 * 1024]


def allowed(profile: Path) -> list[str | None]:
    return [each.text for each in ElementTree.parse(profile).iter() if each.tag.endswith("}address")]
