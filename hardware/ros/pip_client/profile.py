"""What CycloneDDS is told, ours or the user's, with what it needs to hear Fast DDS; and what the kernel must allow."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

PROFILE = Path(__file__).parent.parent / "cyclonedds.xml"
URI = "CYCLONEDDS_URI"
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
NEEDED_RMEM_BYTES = 2 * 1024 * 1024
INTERFACE = "ROBOT_RL_INTERFACE"
"""Address that our client binds to, or `any`."""
LOOPBACK, ANY = "127.0.0.1", "any"
LOCAL_INTERFACE = '<Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>'
LOCAL_DISCOVERY = (
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
)
LOCAL_FRAGMENT, FRAGMENT = "60000B", "4000B"
"""On loopback a packet may have 64 kB, and Fast DDS keeps up with few large ones only; on a cable one lost frame of
1,500 bytes would cost 60,000."""
LEAST_BUFFER = ' min="2MB"'
CURE_KEY = "IgnoreTypeInformation"
FAST_DDS = "1.15"
"""eProsima's number among DDS vendors."""
CURE = f"<Compatibility><{CURE_KEY}>{FAST_DDS}</{CURE_KEY}></Compatibility>"
"""CycloneDDS 11 refuses the type information of Fast DDS 3 (Kilted) for every type with a sequence in it, and the topic
with it. Told to ignore it, both compare the types' names, as with older Fast DDS. It is not in the file: CycloneDDS
0.10, on which rmw_cyclonedds of Humble to Kilted is built, does not start with a key that it does not know."""


def rmem_max_bytes() -> int | None:
    """Largest receive buffer that the kernel gives a socket [bytes]; None where it does not say."""
    try:
        return int(RMEM_MAX.read_text())
    except (OSError, ValueError):
        return None


def address_of_environment(environment: Mapping[str, str] = os.environ) -> str:
    """Address to bind to: ROBOT_RL_INTERFACE, or what ROS's own variables ask for; nobody asks: this computer alone."""
    named = environment.get(INTERFACE)
    if named:
        return named
    asked = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() == "SUBNET"
    return ANY if asked and environment.get("ROS_LOCALHOST_ONLY") != "1" else LOOPBACK


def configuration(environment: Mapping[str, str] = os.environ) -> str:
    """What a domain is made with: the user's CYCLONEDDS_URI, or else our profile; either hears Fast DDS 3."""
    given = environment.get(URI)
    if not given:
        return profile_text(rmem_max_bytes(), address_of_environment(environment))
    if names_cure(given):
        return given
    return f'{given},<CycloneDDS><Domain Id="any">{CURE}</Domain></CycloneDDS>'


def profile_text(rmem_bytes: int | None, address: str = LOOPBACK, *, cure: bool = True) -> str:
    """The profile as this machine can use it.

    Args:
        rmem_bytes: `rmem_max_bytes`. Where the kernel refuses the least buffer it is left out, as CycloneDDS would not
            start with it.
        address: Of the interface to talk over, or `any`, which lets CycloneDDS choose. On loopback others are found by
            asking rather than by multicast.
        cure: Whether it is for a CycloneDDS that knows how to ignore type information.
    """
    text = PROFILE.read_text()
    if cure:
        text = text.replace("<General>", f"{CURE}<General>")
    if address == LOOPBACK:
        text = text.replace("<General>", f"{LOCAL_DISCOVERY}<General>{LOCAL_INTERFACE}")
        text = text.replace(f">{FRAGMENT}<", f">{LOCAL_FRAGMENT}<")
    elif address != ANY:
        text = text.replace("<General>", f'<General><Interfaces><NetworkInterface address="{address}"/></Interfaces>')
    if rmem_bytes is not None and rmem_bytes < NEEDED_RMEM_BYTES:
        return text.replace(LEAST_BUFFER, "")
    return text


def uri_problems(uri: str) -> list[str]:
    """What a user's CYCLONEDDS_URI lacks for our client, each with its remedy; empty where there is nothing to say.

    Args:
        uri: As in the environment; files that it names are read.
    """
    unreadable = [str(path) for path in _files(uri) if not os.access(path, os.R_OK)]
    if unreadable:
        return [f"CYCLONEDDS_URI names {', '.join(unreadable)}, which cannot be read. Next: name a file that is there"]
    given = re.findall(rf"<{CURE_KEY}>([^<]*)</", _uri_text(uri))
    vendors = {vendor.strip() for text in given for vendor in text.split(",")}
    if given and FAST_DDS not in vendors:
        added = ",".join(sorted(filter(None, vendors | {FAST_DDS})))
        return [
            f"CYCLONEDDS_URI ignores type information of {', '.join(given)} only: robots on Fast DDS 3 (Kilted and "
            "newer) and our client do not hear each other. Next: in <Domain> write "
            f"<Compatibility><{CURE_KEY}>{added}</{CURE_KEY}></Compatibility>, or leave it out and our client adds it"
        ]
    return []


def names_cure(uri: str) -> bool:
    """Whether a CYCLONEDDS_URI says itself whose type information is ignored."""
    return f"<{CURE_KEY}>" in _uri_text(uri)


def security_problem(environment: Mapping[str, str] = os.environ) -> str | None:
    """Why ROS's own keystore does not protect our client, in words; None where nobody asks for it."""
    if environment.get("ROS_SECURITY_ENABLE", "").lower() != "true":
        return None
    return (
        "ROS_SECURITY_ENABLE is true, but CycloneDDS from pip is built without DDS Security: our client would talk "
        "unprotected, and a secured robot does not hear it. Next: use ROS 2 with its own packages of rclpy on every "
        "computer, or ROS_SECURITY_ENABLE=false and a network of the robot's own"
    )


def _files(uri: str) -> list[Path]:
    """Files that a CYCLONEDDS_URI names; XML in it may have commas of its own."""
    outside = re.sub(r"<.*>", "", uri, flags=re.DOTALL)
    return [Path(piece.removeprefix("file://")) for piece in map(str.strip, outside.split(",")) if piece]


def _uri_text(uri: str) -> str:
    """A CYCLONEDDS_URI with what its files hold."""
    return "\n".join([uri, *(path.read_text(errors="replace") for path in _files(uri) if path.is_file())])


def kernel_problems(rmem_bytes: int | None) -> list[str]:
    """What the kernel's settings lack for images over DDS, each with its remedy."""
    if rmem_bytes is None or rmem_bytes >= NEEDED_RMEM_BYTES:
        return []
    return [
        f"net.core.rmem_max is {rmem_bytes}, images over DDS need {NEEDED_RMEM_BYTES}: most uncompressed images "
        "will be lost. Next: sudo sysctl -w net.core.rmem_max=4194304 (and the same line in /etc/sysctl.d/60-dds.conf)"
    ]
