"""A DDS domain that belongs to one test process and never leaves the machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("hardware.ros.client")

LOOPBACK = """<CycloneDDS><Domain>
<General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>
<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>4000B</FragmentSize></General>
<Discovery><LeaseDuration>5s</LeaseDuration><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery>
<Internal><WriterLingerDuration>200ms</WriterLingerDuration><SocketReceiveBufferSize {least}max="8MB"/></Internal>
</Domain></CycloneDDS>"""
DOMAINS = range(1, 101)
"""Above 101 the ports run into those that Linux gives to outgoing connections."""
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


def loopback_profile() -> str:
    """Shipped buffers, loopback only, discovery by asking each participant index on 127.0.0.1."""
    large = not RMEM_MAX.exists() or int(RMEM_MAX.read_text()) >= 2 * 1024 * 1024
    return LOOPBACK.format(least='min="2MB" ' if large else "").replace("\n", "")


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
    from hardware.ros.client import BACKEND, rclpy, require_ros

    if BACKEND is None:
        try:
            require_ros()
        except Exception as missing:
            pytest.skip(str(missing))
    joined = {"CYCLONEDDS_URI": loopback_profile(), "ROS_DOMAIN_ID": str(ros_domain_id)}
    if BACKEND == "rclpy":
        joined["RMW_IMPLEMENTATION"] = "rmw_cyclonedds_cpp"
    for name, value in joined.items():
        monkeypatch.setenv(name, value)
    yield {**os.environ, **joined}
    rclpy.try_shutdown()
