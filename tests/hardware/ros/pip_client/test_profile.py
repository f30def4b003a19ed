"""The shipped DDS profile on machines whose kernel allows less."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from hardware.ros.pip_client.profile import (
    ANY,
    CURE_KEY,
    LOOPBACK,
    NEEDED_RMEM_BYTES,
    PROFILE,
    configuration,
    kernel_problems,
    profile_text,
    security_problem,
    uri_problems,
)
from robot_rl.core.errors import RobotRLError

SMALL, LARGE = 212_992, 4 * 1024 * 1024
NAMESPACE = "{https://cdds.io/config}"


@pytest.mark.parametrize("address", [LOOPBACK, ANY, "10.0.0.1"])
@pytest.mark.parametrize("rmem_bytes", [None, SMALL, LARGE])
def test_the_profile_is_well_formed(rmem_bytes: int | None, address: str):
    assert ElementTree.fromstring(profile_text(rmem_bytes, address)).tag == f"{NAMESPACE}CycloneDDS"


@pytest.mark.parametrize(("rmem_bytes", "least"), [(None, "2MB"), (SMALL, None), (LARGE, "2MB")])
def test_the_least_buffer_is_left_out_where_the_kernel_refuses_it(rmem_bytes: int | None, least: str | None):
    tree = ElementTree.fromstring(profile_text(rmem_bytes))
    buffer = tree.find(f".//{NAMESPACE}SocketReceiveBufferSize")
    assert buffer is not None
    assert buffer.get("min") == least


def test_who_names_no_interface_gets_loopback_and_no_multicast():
    tree = ElementTree.fromstring(profile_text(LARGE))
    interface = tree.find(f".//{NAMESPACE}NetworkInterface")
    assert interface is not None
    assert (interface.get("address"), interface.get("multicast")) == ("127.0.0.1", "false")


def test_a_small_rmem_max_is_a_problem_with_a_remedy():
    assert kernel_problems(LARGE) == kernel_problems(None) == kernel_problems(NEEDED_RMEM_BYTES) == []
    (problem,) = kernel_problems(SMALL)
    assert "212992" in problem
    assert "sysctl -w net.core.rmem_max" in problem


def ignored(text: str) -> list[str | None]:
    return [each.text for each in ElementTree.fromstring(text).iter() if each.tag.endswith(CURE_KEY)]


def test_our_profile_ignores_the_type_information_of_fast_dds():
    assert ignored(configuration({})) == ["1.15"]


def test_the_file_has_no_key_that_an_older_cyclonedds_refuses_to_start_with():
    assert ignored(PROFILE.read_text()) == []


@pytest.mark.parametrize("uri", ["<CycloneDDS><Domain/></CycloneDDS>", "file:///a.xml,/b.xml", f"file://{PROFILE}"])
def test_a_users_profile_is_taken_as_it_is_and_hears_fast_dds_too(uri: str):
    given = configuration({"CYCLONEDDS_URI": uri})
    assert given.startswith(f"{uri},")
    assert ignored(given.removeprefix(f"{uri},")) == ["1.15"]


def test_a_user_who_names_whose_type_information_is_ignored_is_obeyed_and_told_what_is_missing(tmp_path: Path):
    file = tmp_path / "mine.xml"
    for vendors, missing in (("1.15", None), ("1.3,1.15", None), ("1.3", "1.15,1.3")):
        file.write_text(f"<CycloneDDS><Domain><Compatibility><{CURE_KEY}>{vendors}</{CURE_KEY}>")
        for uri in (str(file), f"file://{file}", f"<Tracing/>,{file}", file.read_text()):
            assert configuration({"CYCLONEDDS_URI": uri}) == uri
            problems = uri_problems(uri)
            assert [f"<{CURE_KEY}>{missing}</" in problem for problem in problems] == ([True] if missing else [])


@pytest.mark.ros
def test_security_that_is_enforced_is_not_left_out_silently(monkeypatch: pytest.MonkeyPatch):
    assert security_problem({}) is None
    assert "unprotected" in (security_problem({"ROS_SECURITY_ENABLE": "true"}) or "")
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    from hardware.ros.pip_client.transport import Participant

    with pytest.raises(RobotRLError, match="built without DDS Security"):
        Participant(1)


def test_a_profile_that_cannot_be_read_is_named():
    (problem,) = uri_problems("<Tracing/>,file:///nowhere/mine.xml")
    assert "/nowhere/mine.xml" in problem
