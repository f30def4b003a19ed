"""The shipped DDS profile, and what the kernel must allow for it."""

from __future__ import annotations

from pathlib import Path

PROFILE = Path(__file__).parent.parent / "cyclonedds.xml"
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
NEEDED_RMEM_BYTES = 2 * 1024 * 1024
LEAST_BUFFER = ' min="2MB"'


def rmem_max_bytes() -> int | None:
    """Largest receive buffer that the kernel gives a socket [bytes]; None where it does not say."""
    try:
        return int(RMEM_MAX.read_text())
    except (OSError, ValueError):
        return None


def profile_text(rmem_bytes: int | None) -> str:
    """The profile; without its least buffer where the kernel refuses that, as CycloneDDS would not start with it."""
    text = PROFILE.read_text()
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
