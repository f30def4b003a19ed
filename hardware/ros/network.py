"""Over which network a robot's nodes and sessions talk: none beyond this computer, unless the robot's yaml names one.

Whoever can send to a ROS domain can stop an arm, clear a stop, enable the arm and move it: there is no password. So our
client and the nodes that `robot-rl up` and the launch files start bind to loopback by default. What counts is in the
environment, as everywhere in ROS, where nodes started by this process find it too.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from hardware.ros.pip_client.profile import ANY, INTERFACE, LOOPBACK, URI, profile_text, rmem_max_bytes
from robot_rl.core.errors import RobotRLError

FAST_PROFILE = Path(__file__).with_name("fastdds.xml")
FAST_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS 2 looks (Humble, Jazzy), and Fast DDS 3, which complains of the former."""
FIRST_RCLPY_ON_FAST_DDS_3 = 8
USERS_OWN = (*FAST_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "RMW_FASTRTPS_USE_QOS_FROM_XML")
RANGE, LOCAL_ONLY, MIDDLEWARE = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "RMW_IMPLEMENTATION"
GET_ADDRESS = 0x8915
"""SIOCGIFADDR of Linux."""
CACHE = "XDG_CACHE_HOME"
_written: dict[str, str] = {}
"""What `join` has put into variables that a user may have set; what is there and not here is the user's."""


def join(interface: str | None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Says where to talk to every ROS node made from now on, here and in processes that are started from here.

    What the user has set by ROS's, CycloneDDS's or Fast DDS's own variables stays as it is.

    Args:
        interface: Name (`eth1`), network (`192.168.56.0/24`), address, or `any`; None keeps to this computer, unless
            ROBOT_RL_INTERFACE names one.
        environment: Changed in place.

    Raises:
        RobotRLError: There is no such interface here; names those that are.
    """
    named = interface or environment.get(INTERFACE)
    address = address_of(named) if named else LOOPBACK
    if named:
        environment[INTERFACE] = address
    if address != LOOPBACK:
        environment[RANGE] = "SUBNET"
    elif environment.get(LOCAL_ONLY) != "1":
        environment.setdefault(RANGE, "LOCALHOST")
    if "cyclonedds" in environment.get(MIDDLEWARE, ""):
        if not _is_users(URI, environment):
            environment[URI] = _written[URI] = profile_text(rmem_max_bytes(), address, cure=False).replace("\n", " ")
    elif not any(_is_users(variable, environment) for variable in USERS_OWN):
        variable = fast_variable()
        environment[variable] = _written[variable] = str(fast_profile(address, environment))


def _is_users(variable: str, environment: Mapping[str, str]) -> bool:
    given = environment.get(variable)
    return bool(given) and given != _written.get(variable)


def describe(environment: MutableMapping[str, str] = os.environ) -> str:
    """Who can reach the nodes, in words, after `join`."""
    if environment.get(URI) and "cyclonedds" in environment.get(MIDDLEWARE, "cyclonedds"):
        return f"whoever reaches the network that {URI} names"
    address = environment.get(INTERFACE, LOOPBACK)
    if address == ANY:
        return "whoever is on any network of this computer"
    if address == LOOPBACK:
        return "every program on this computer"
    return f"every program on this computer and whoever is on the network of {address}"


def address_of(interface: str) -> str:
    """IPv4 address of an interface of this computer, or `any`.

    Raises:
        RobotRLError: There is none; names those that are.
    """
    here = addresses()
    if interface == ANY or interface in here.values():
        return interface
    if interface in here:
        return here[interface]
    try:
        network = ipaddress.ip_network(interface, strict=False)
    except ValueError:
        network = None
    found = [each for each in here.values() if network is not None and ipaddress.ip_address(each) in network]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{name} ({each})" for name, each in here.items())
    raise RobotRLError(
        f"robot.interface is {interface!r}, wanted one interface of this computer: {listed}; or a network that only "
        f"one of them is in, as 192.168.56.0/24; or {ANY!r}"
    )


def addresses() -> dict[str, str]:
    """IPv4 addresses of this computer by interface."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def fast_variable() -> str:
    """By which variable the Fast DDS of this computer's rclpy is given a profile."""
    try:
        major = int(importlib.metadata.version("rclpy").split(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        major = 0
    return FAST_VARIABLES[major >= FIRST_RCLPY_ON_FAST_DDS_3]


def fast_profile(address: str, environment: MutableMapping[str, str] = os.environ) -> Path:
    """Fast DDS's profile for an address; for loopback the shipped file."""
    if address == LOOPBACK:
        return FAST_PROFILE
    text = FAST_PROFILE.read_text()
    allowed = f"<address>{LOOPBACK}</address>"
    if address == ANY:
        text = text.replace(f"<interfaceWhiteList>{allowed}</interfaceWhiteList>", "")
    else:
        text = text.replace(allowed, f"{allowed}<address>{address}</address>")
    directory = Path(environment.get(CACHE) or "~/.cache").expanduser() / "robot_rl"
    directory.mkdir(parents=True, exist_ok=True)
    place, whole = directory / f"fastdds_{address}.xml", directory / f"fastdds_{address}.{os.getpid()}.part"
    whole.write_text(text)
    return whole.replace(place)  # another process may be reading it
