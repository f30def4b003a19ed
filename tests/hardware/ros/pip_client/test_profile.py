"""The shipped DDS profile on machines whose kernel allows less."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from hardware.ros.pip_client.profile import NEEDED_RMEM_BYTES, kernel_problems, profile_text

SMALL, LARGE = 212_992, 4 * 1024 * 1024
NAMESPACE = "{https://cdds.io/config}"


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("rmem_bytes", [None, SMALL, LARGE])
def test_the_profile_is_well_formed(rmem_bytes: int | None, local: bool):
    assert ElementTree.fromstring(profile_text(rmem_bytes, local=local)).tag == f"{NAMESPACE}CycloneDDS"


@pytest.mark.parametrize(("rmem_bytes", "least"), [(None, "2MB"), (SMALL, None), (LARGE, "2MB")])
def test_the_least_buffer_is_left_out_where_the_kernel_refuses_it(rmem_bytes: int | None, least: str | None):
    tree = ElementTree.fromstring(profile_text(rmem_bytes))
    buffer = tree.find(f".//{NAMESPACE}SocketReceiveBufferSize")
    assert buffer is not None
    assert buffer.get("min") == least


def test_local_means_loopback_and_no_multicast():
    tree = ElementTree.fromstring(profile_text(LARGE, local=True))
    interface = tree.find(f".//{NAMESPACE}NetworkInterface")
    assert interface is not None
    assert (interface.get("address"), interface.get("multicast")) == ("127.0.0.1", "false")


def test_a_small_rmem_max_is_a_problem_with_a_remedy():
    assert kernel_problems(LARGE) == kernel_problems(None) == kernel_problems(NEEDED_RMEM_BYTES) == []
    (problem,) = kernel_problems(SMALL)
    assert "212992" in problem
    assert "sysctl -w net.core.rmem_max" in problem
