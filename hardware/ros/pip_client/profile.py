"""The shipped DDS profile, and what the kernel must allow for it."""

from __future__ import annotations

import os
from pathlib import Path

PROFILE = Path(__file__).parent.parent / "cyclonedds.xml"
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
NEEDED_RMEM_BYTES = 2 * 1024 * 1024
LOCAL_INTERFACE = '<Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>'
LOCAL_DISCOVERY = (
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
)
LEAST_BUFFER = ' min="2MB"'


def rmem_max_bytes() -> int | None:
    """Largest receive buffer that the kernel gives a socket [bytes]; None where it does not say."""
    try:
        return int(RMEM_MAX.read_text())
    except (OSError, ValueError):
        return None


def only_this_machine() -> bool:
    """Whether ROS' own variables (Humble's, then Jazzy's) ask for that."""
    jazzy = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() == "LOCALHOST"
    return jazzy or os.environ.get("ROS_LOCALHOST_ONLY") == "1"


def profile_text(rmem_bytes: int | None, *, local: bool = False) -> str:
    """The profile as this machine can use it.

    Args:
        rmem_bytes: `rmem_max_bytes`. Where the kernel refuses the least buffer it is left out, as CycloneDDS would not
            start with it.
        local: Loopback only, found by asking rather than by multicast.
    """
    text = PROFILE.read_text()
    if local:
        text = text.replace("<General>", f"{LOCAL_DISCOVERY}<General>{LOCAL_INTERFACE}")
    if rmem_bytes is not None and rmem_bytes < NEEDED_RMEM_BYTES:
        return text.replace(LEAST_BUFFER, "")
    return text


def kernel_problems(rmem_bytes: int | None) -> list[str]:
    """What the kernel's settings lack for images over DDS, each with its remedy."""
    if rmem_bytes is None or rmem_bytes >= NEEDED_RMEM_BYTES:
        return []
    return [
        f"net.core.rmem_max is {rmem_bytes}, images over DDS need {NEEDED_RMEM_BYTES}: most uncompressed images "
        "will be lost. Next: sudo sysctl -w net.core.rmem_max=4194304 (and the same line in /etc/sysctl.d/60-dds.conf)"
    ]
