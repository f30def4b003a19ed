"""A DDS domain that belongs to one test process and never leaves the machine."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")  # Jazzy's messages check their fields only when asked

from hardware.ros.client import BACKEND, problems
from tests.hardware.ros.stubborn_arm import Trial

LOOPBACK = """<CycloneDDS><Domain>
<General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>
<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>4000B</FragmentSize></General>
<Discovery><LeaseDuration>5s</LeaseDuration><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery>
<Internal><WriterLingerDuration>200ms</WriterLingerDuration><SocketReceiveBufferSize {least}max="8MB"/></Internal>
</Domain></CycloneDDS>"""
FAST_DDS_LOOPBACK = Path(__file__).with_name("fastdds_loopback.xml")
ROOT = Path(__file__).parents[3]
DOMAINS = range(1, 101)
"""Above 101 the ports run into those that Linux gives to outgoing connections."""
JAZZY_RCLPY = 7
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


left_out: list[str] = []


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Files marked `ros` cannot even be imported where there is no ROS of either kind."""
    if BACKEND is None and collection_path.suffix == ".py" and "pytest.mark.ros" in collection_path.read_text():
        left_out.append(collection_path.name)
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why files were left out."""
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} files marked ros were left out: {' '.join(problems())}")


def loopback_profile() -> str:
    """Shipped buffers, loopback only, discovery by asking each participant index on 127.0.0.1."""
    large = not RMEM_MAX.exists() or int(RMEM_MAX.read_text()) >= 2 * 1024 * 1024
    return LOOPBACK.format(least='min="2MB" ' if large else "").replace("\n", "")


def loopback_environment() -> dict[str, str]:
    """What keeps the middleware that is there on this machine, whichever it is, and lets programs find our packages."""
    joined = {"CYCLONEDDS_URI": loopback_profile()}
    joined["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if BACKEND == "rclpy":
        # Fast DDS 3, which came after Jazzy, reads a new name and warns of the old one.
        old = int(importlib.metadata.version("rclpy").split(".")[0]) <= JAZZY_RCLPY
        joined[f"{'FASTRTPS' if old else 'FASTDDS'}_DEFAULT_PROFILES_FILE"] = str(FAST_DDS_LOOPBACK)
    return joined


@pytest.fixture(scope="session")
def ros_domain_id() -> Iterator[int]:
    """A domain that no other test process on this machine uses, held by a lock on a file."""
    for domain in DOMAINS:
        lock = (Path(tempfile.gettempdir()) / f"ros_domain_{domain}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        yield domain
        lock.close()
        return
    pytest.skip(f"all of the domains {DOMAINS.start} to {DOMAINS.stop - 1} are in use")


@pytest.fixture
def ros_domain(ros_domain_id: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Environment that this process has during the test, and that others need to join it."""
    joined = {**loopback_environment(), "ROS_DOMAIN_ID": str(ros_domain_id)}
    for name, value in joined.items():
        monkeypatch.setenv(name, value)
    from hardware.ros.client import rclpy

    yield {**os.environ, **joined}
    rclpy.try_shutdown()


@pytest.fixture
def trial() -> Trial:
    """An arm that was enabled and has begun an episode."""
    bench = Trial()
    bench.begin()
    bench.true.clear()
    return bench
