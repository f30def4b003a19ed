"""Two network namespaces joined by a cable are two hosts: a node on each finds the other by multicast."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.hardware.ros.conformance.spinning import GIVE_UP_S, PROGRAMS, ROOT

pytestmark = pytest.mark.ros

TWO_HOSTS = """
set -e
ip link set lo up
unshare --net sleep 60 & there=$!
trap 'kill $there $far 2>/dev/null; wait' EXIT
until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
ip link add name here type veth peer name far netns $there
ip addr add 10.77.0.1/24 dev here
ip link set here up
nsenter --net=/proc/$there/ns/net sh -c \
    'ip link set lo up; ip addr add 10.77.0.2/24 dev far; ip link set far up; ip route add default dev far'
ip route add default dev here
nsenter --net=/proc/$there/ns/net "$PYTHON" "$PROGRAMS/echo.py" & far=$!
"$PYTHON" "$PROGRAMS/ask.py"
"""


def namespaces_problem() -> str | None:
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        return "needs unshare, nsenter and ip"
    tried = subprocess.run(
        ["unshare", "-Urn", "ip", "link", "add", "name", "here", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() or "user namespaces are not allowed" if tried.returncode else None


def test_nodes_on_two_hosts_find_each_other_and_talk(ros_domain: dict[str, str]):
    problem = namespaces_problem()
    if problem is not None:
        pytest.skip(f"no network namespaces here: {problem}")
    environment = {**ros_domain, "ROBOT_RL_INTERFACE": "any", "PYTHON": sys.executable, "PROGRAMS": str(PROGRAMS)}
    for only_here in ("CYCLONEDDS_URI", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        environment.pop(only_here, None)
    ran = subprocess.run(
        ["unshare", "-Urn", "sh", "-c", TWO_HOSTS],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3 * GIVE_UP_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["answered", "20"], (ran.stdout, ran.stderr)
    assert os.environ["ROS_DOMAIN_ID"] == environment["ROS_DOMAIN_ID"]
