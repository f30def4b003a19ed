"""On a cable with a stranger, who knows topics and address: who names no interface sends nothing and hears nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hardware.ros.client")

from hardware.ros.client import BACKEND
from tests.hardware.ros.conformance.test_two_hosts import namespaces_problem
from tests.hardware.ros.mixed.neighbour import DISTRIBUTIONS, ROOT, clean, python_of, variable

pytestmark = [pytest.mark.ros, pytest.mark.slow]
PROGRAMS = Path(__file__).with_name("programs")
ROBOT, STRANGER = "10.77.0.1", "10.77.0.2"
WATCH_S = 12.0
"""Long enough for a slow machine to discover a peer; the other case of each pair shows that it is."""
CABLE = """
set -e
ip link set lo up
unshare --net sleep 120 & there=$!
trap 'kill $there $far 2>/dev/null || true; wait' EXIT
until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
ip link add name here type veth peer name far netns $there
ip link set here addrgenmode none
ip addr add 10.77.0.1/24 dev here
ip link set here up
nsenter --net=/proc/$there/ns/net sh -c 'ip link set lo up; ip addr add 10.77.0.2/24 dev far; ip link set far up'
ip route add default dev here
if [ -n "$PEER" ]; then
    ROBOT_RL_ROS=pip nsenter --net=/proc/$there/ns/net "$OURS" "$PROGRAMS/stranger.py" & far=$!
fi
"$PYTHON" "$PROGRAMS/robot.py" "$INTERFACE" "$SECONDS_LONG"
"""


@pytest.fixture(params=["ours", *DISTRIBUTIONS])
def python(request: pytest.FixtureRequest) -> Path:
    """With what the robot's node runs."""
    problem = namespaces_problem()
    if problem is not None:
        pytest.skip(f"no network namespaces here: {problem}")
    if BACKEND != "pip":
        pytest.skip("the stranger uses our own client: run it without ROS, or with ROBOT_RL_ROS=pip")
    found = Path(sys.executable) if request.param == "ours" else python_of(request.param)
    if found is None:
        pytest.skip(
            f"no real ROS 2 {request.param} here: {variable(request.param)}, which make test-ros sets, is unset"
        )
    return found


def robot_on_a_cable(python: Path, domain_id: int, interface: str, *, stranger: bool, cache: Path) -> dict[str, Any]:
    environment = clean({"ROS_DOMAIN_ID": str(domain_id)}) | {
        "PYTHON": str(python),
        "OURS": sys.executable,
        "PROGRAMS": str(PROGRAMS),
        "INTERFACE": interface,
        "SECONDS_LONG": str(WATCH_S),
        "PEER": ROBOT if stranger else "",
        "XDG_CACHE_HOME": str(cache),
    }
    del environment["ROS_AUTOMATIC_DISCOVERY_RANGE"]
    environment.pop("CYCLONEDDS_URI", None)
    ran = subprocess.run(
        ["unshare", "-Urn", "sh", "-c", CABLE],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def test_nothing_leaves_the_computer_and_no_stranger_is_heard(python: Path, ros_domain_id: int, tmp_path: Path):
    assert robot_on_a_cable(python, ros_domain_id, "", stranger=False, cache=tmp_path)["left"] == 0
    assert robot_on_a_cable(python, ros_domain_id, "", stranger=True, cache=tmp_path)["stops"] == 0


def test_a_named_interface_joins_the_computer_at_the_other_end(python: Path, ros_domain_id: int, tmp_path: Path):
    assert robot_on_a_cable(python, ros_domain_id, "10.77.0.0/24", stranger=True, cache=tmp_path)["stops"] > 0
