"""Checks of ROS 2 on this machine: which client nodes would use, whom it hears, and what the network lets through."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hardware.ros.network import FAST_PROFILE, FAST_VARIABLES
from hardware.ros.pip_client.profile import ANY, CURE_KEY, LOOPBACK, URI, address_of_environment, names_cure
from robot_rl.commands.doctor.findings import Finding, ProbeFailed, Status, run_probe

PROBE_TIMEOUT_S = 60.0
HIGHEST_DOMAIN = 101
"""Above it, DDS ports run into those that Linux gives to outgoing connections."""
MULTICAST_FLAG = 0x1000
DEFAULT_RMW = "rmw_fastrtps_cpp"
NAMES = {"rclpy": "rclpy", "pip": "our own client on cyclonedds and rosbags"}

Ask = Callable[[], Mapping[str, Any]]


def ask_client() -> dict[str, Any]:
    """Runs in a process of its own: what nodes would speak ROS with, and what would keep it from working well."""
    from hardware.ros.client import BACKEND, problems

    return {"backend": BACKEND, "problems": problems()}


def client(environment: Mapping[str, str] = os.environ, ask: Ask | None = None) -> Finding:
    """Whether nodes can run here, with what, and what stands in the way of images."""
    try:
        facts = ask() if ask else run_probe("robot_rl.commands.doctor.main", ["--probe", "ros"], PROBE_TIMEOUT_S)
    except ProbeFailed as error:
        # A sourced ROS for another Python is found by name, and fails only when it is loaded.
        remedy = "export ROBOT_RL_ROS=pip for our own client" if environment.get("ROS_DISTRO") else "make env"
        return Finding("ROS 2", Status.WARN, f"its client cannot be loaded: {error}", remedy)
    complaints: list[str] = list(facts["problems"])
    what, _, remedy = "".join(complaints[:1]).partition(" Next: ")
    rest = "".join(f"; {each}" for each in complaints[1:])
    if facts["backend"] is None:
        return Finding("ROS 2", Status.MISSING, f"{what} Simulations in process need none{rest}", remedy)
    distribution = environment.get("ROS_DISTRO", "")
    detail = f"nodes use {NAMES[facts['backend']]}"
    if distribution:
        detail += f", ROS {distribution} is sourced"
    if distribution and facts["backend"] == "pip":
        detail += " but has no rclpy for this Python, which is no harm"
    if what:
        return Finding("ROS 2", Status.WARN, f"{detail}; {what}{rest}", remedy)
    return Finding("ROS 2", Status.OK, detail)


def middleware(environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether the middleware of a sourced ROS is one that our own client can talk to."""
    name = "ROS middleware"
    chosen = environment.get("RMW_IMPLEMENTATION", "")
    if not environment.get("ROS_DISTRO") and not chosen:
        return Finding(
            name, Status.OK, "no ROS is sourced here; robots on rmw_fastrtps and rmw_cyclonedds can be reached"
        )
    used = chosen or DEFAULT_RMW
    if "zenoh" in used:
        remedy = "on all: apt install ros-$ROS_DISTRO-rmw-cyclonedds-cpp; export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp"
        return Finding(name, Status.WARN, f"{used} speaks no DDS: our own client and it do not hear each other", remedy)
    detail = f"{used}{'' if chosen else ', the default'}"
    if "cyclonedds" in used:
        if names_cure(environment.get(URI, "")):
            remedy = f"take {CURE_KEY} out of it: our own client adds it by itself, where it is needed"
            return Finding(name, Status.WARN, f"{detail}; CycloneDDS 0.10 in it does not start with this {URI}", remedy)
        return Finding(name, Status.OK, detail)
    detail += "; topics reach our own client, services do not"
    if environment.get("FASTDDS_BUILTIN_TRANSPORTS") or any(environment.get(each) for each in FAST_VARIABLES):
        return Finding(name, Status.OK, detail)
    remedy = (
        "before nodes other than ours, on both sides: export FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA, or on one computer "
        f"{FAST_VARIABLES[0]} (from Kilted on {FAST_VARIABLES[1]})={FAST_PROFILE}"
    )
    return Finding(name, Status.WARN, f"{detail}; by default it loses most uncompressed images", remedy)


def network(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Finding:
    """Which ROS graph this computer joins, and over which network."""
    name = "ROS network"
    domain = environment.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdecimal() or int(domain) > HIGHEST_DOMAIN:
        remedy = f"export ROS_DOMAIN_ID=0, the same number up to {HIGHEST_DOMAIN} on every computer of one robot"
        return Finding(name, Status.WARN, f"ROS_DOMAIN_ID is {domain!r}", remedy)
    detail = f"domain {domain}"
    local = environment.get("ROS_LOCALHOST_ONLY") == "1" or (
        environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() in {"LOCALHOST", "OFF"}
    )
    if local:
        remedy = "for a robot on another computer: unset ROS_LOCALHOST_ONLY ROS_AUTOMATIC_DISCOVERY_RANGE"
        return Finding(name, Status.WARN, f"{detail}; ROS is told to stay on this computer", remedy)
    if environment.get(URI):
        return Finding(name, Status.OK, f"{detail}, interfaces as {URI} says")
    address = address_of_environment(environment)
    if address == LOOPBACK:
        detail += ", this computer alone; robot.interface in a robot's yaml or ROBOT_RL_INTERFACE names a network"
        return Finding(name, Status.OK, detail)
    if address != ANY:
        return Finding(name, Status.OK, f"{detail} over {address}")
    interfaces = _multicast_interfaces(root)
    if not interfaces:
        remedy = (
            "name the other computers as Peers in CYCLONEDDS_URI, or connect a network; on one computer all is well"
        )
        return Finding(name, Status.WARN, f"{detail}; no network but loopback passes multicast", remedy)
    detail += f" over {', '.join(interfaces)}"
    if len(interfaces) > 1:
        remedy = "if nodes do not find each other, name the robot's in CYCLONEDDS_URI: docs/ros.md shows how"
        return Finding(name, Status.WARN, f"{detail}; DDS takes one of them", remedy)
    return Finding(name, Status.OK, detail)


def _multicast_interfaces(root: Path) -> list[str]:
    """Interfaces that are up and pass multicast, without loopback."""
    found = []
    for place in sorted((root / "sys/class/net").glob("*")):
        state, flags = place / "operstate", place / "flags"
        if place.name == "lo" or not (state.is_file() and flags.is_file()):
            continue
        if state.read_text().strip() != "down" and int(flags.read_text(), 16) & MULTICAST_FLAG:
            found.append(place.name)
    return found
