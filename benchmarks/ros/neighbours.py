"""Deaf and hostile neighbours on the network: do the nodes survive, and does the loop keep its rate?

    python -m benchmarks.ros.neighbours [--seconds 8] [--only WORD ...] [--output runs/ros_faults]

Around the simulated real-time arm run an arm node, a camera node and a session at 20 Hz, as in `faults.py`, while
another process does one of these:

- *malformed*: bytes that are no message (random, with absurd lengths, empty, no text where text belongs), forged as
  packets of a real writer because CycloneDDS refuses to send them, on every topic that we read but `stop` and `enable`,
  on which every byte is a message: whoever may publish there may stop the arm;
- *oversized images*: 20 MB of nonsense, and a sound JPEG of 48 megapixels, in turn on the camera's topic;
- *other domain*: the floods below with another ROS_DOMAIN_ID;
- *flood*: 10,000 sound messages a second on a topic that the session reads (another arm's joints on `joint_states`), or
  that the arm node reads (heartbeats of somebody else).

Columns: messages sent; ticks of the session in the time wanted, over budget, lateness; the arm stream's rate and
lateness as its diagnostics have them (the worst second); whether both nodes live; how the episode ended. Writes
`neighbours.json`, `neighbours.md` and, with all that goes to stderr, `neighbours.log` into the output directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ros.fault_bench import cpu_s
from benchmarks.ros.fault_scene import Scene
from hardware.cameras.frame_source import encode_jpeg
from hardware.ros import arm_topics
from hardware.ros.camera_node import compressed_image
from hardware.ros.client import QoSProfile, qos_profile_sensor_data
from hardware.ros.pip_client.messages import encode
from hardware.ros.pip_client.names import TOPIC
from hardware.ros.pip_client.qos import to_dds
from hardware.ros.pip_client.transport import Participant, Writer

NAMESPACE = "/sim_joint"
JOINT_STATES, IMAGE = f"{NAMESPACE}/joint_states", f"{NAMESPACE}/front/image_raw/compressed"
READ: Mapping[str, tuple[str, QoSProfile]] = {
    JOINT_STATES: ("sensor_msgs/msg/JointState", qos_profile_sensor_data),
    f"{NAMESPACE}/tool_pose": ("geometry_msgs/msg/PoseStamped", qos_profile_sensor_data),
    IMAGE: ("sensor_msgs/msg/CompressedImage", qos_profile_sensor_data),
    **{
        arm_topics.absolute(NAMESPACE, topic.name): (topic.type_name, topic.qos())
        for topic in (
            arm_topics.COMMAND,
            arm_topics.APPLIED,
            arm_topics.ENABLE,
            arm_topics.DEADMAN,
            arm_topics.STOP,
            arm_topics.CLEAR,
            arm_topics.RESET,
            arm_topics.MODE,
        )
    },
}
"""Every topic that a session or an arm node reads."""
FLOOD_HZ = 10_000
MALFORMED_HZ = 500
PARTICIPANTS = 12
"""As many processes of a domain are reached on this machine."""
LARGE_BYTES, LARGE_PX = 20_000_000, (6000, 8000)
LARGE_HZ = 2
LITTLE_ENDIAN = b"\x00\x01\x00\x00"
"""What every encoded message begins with."""


def malformed(generator: random.Random) -> bytes:
    """Bytes that are no message, a multiple of four long, as the transport wants them."""
    kind = generator.randrange(5)
    if kind == 0:
        data = generator.randbytes(generator.randrange(4, 400))
    elif kind == 1:
        data = LITTLE_ENDIAN + generator.randbytes(generator.randrange(0, 60))
    elif kind == 2:
        # A header whose frame id is four gigabytes long, or strings and sequences of absurd lengths all over.
        data = LITTLE_ENDIAN + struct.pack("<iI", 1, 1) + b"\xff\xff\xff\xff" * generator.randrange(1, 20)
    elif kind == 3:
        # Whole but for a name that is no text; the transport lets it through.
        data = joints_of_another().replace(b"other_0", b"\xff\xfe\xfd\xff\xff\xff\xff")
    else:
        data = LITTLE_ENDIAN
    return data + bytes(-len(data) % 4)


def forged(guid: bytes, sequence: int, payload: bytes) -> bytes:
    """An RTPS packet with a sample as the network would carry it; CycloneDDS itself refuses to send a malformed one.

    Args:
        guid: Of a writer that readers have matched.
        sequence: Of the sample, from 1.
        payload: The encoded message with its four bytes of encapsulation, whatever it holds.
    """
    header = b"RTPS\x02\x01\x01\x10" + guid[:12]
    body = struct.pack("<HH", 0, 16) + bytes(4) + guid[12:] + struct.pack("<iI", 0, sequence) + payload
    return header + b"\x15\x05" + struct.pack("<H", len(body)) + body


class Forger:
    """Sends whatever it is given as samples of a real writer, to every participant of this machine.

    Args:
        writer: Matched by the readers.
        domain: Theirs.
    """

    def __init__(self, writer: Writer, domain: int) -> None:
        self._guid, self._sequence = writer.guid, 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # The protocol's own formula for the ports of user data.
        self._ports = [7400 + 250 * domain + 11 + 2 * index for index in range(PARTICIPANTS)]

    def write(self, payload: bytes) -> None:
        """Sends a sample."""
        self._sequence += 1
        packet = forged(self._guid, self._sequence, payload)
        for port in self._ports:
            with contextlib.suppress(ConnectionError):
                self._socket.sendto(packet, ("127.0.0.1", port))


def joints_of_another() -> bytes:
    """A JointState of an arm that is not ours."""
    topic = arm_topics.Topic("joint_states", "sensor_msgs/msg/JointState")
    names = [f"other_{index}" for index in range(7)]
    return bytes(encode(arm_topics.encode_numbers(topic, time.time_ns(), "", names, np.zeros(7))))


def heartbeat_of_another() -> bytes:
    """A heartbeat of a session that has nothing to say."""
    return bytes(encode(arm_topics.encode_header(time.time_ns(), "neighbour")))


def large_images() -> Iterator[bytes]:
    """Nonsense and a large picture in turn."""
    picture = encode_jpeg(np.zeros((*LARGE_PX, 3), np.uint8), 50)
    while True:
        for data in (bytes(LARGE_BYTES), picture):
            yield bytes(encode(compressed_image(arm_topics.encode_header(time.time_ns(), "neighbour"), data)))


def neighbour(what: str, seconds: float) -> None:
    """The process beside: says "ready" on stdout, does its worst, and says how many messages that was."""
    domain = int(os.environ["ROS_DOMAIN_ID"])
    participant = Participant(domain)
    generator = random.Random(0)
    sound = {arm_topics.absolute(NAMESPACE, topic.name) for topic in (arm_topics.STOP, arm_topics.ENABLE)}
    topics = {
        "malformed": [topic for topic in READ if topic not in sound],
        "images": [IMAGE],
        "joints": [JOINT_STATES],
    }.get(what, [arm_topics.absolute(NAMESPACE, arm_topics.DEADMAN.name)])
    images = large_images()
    make: Mapping[str, tuple[float, Callable[[], bytes]]] = {
        "malformed": (MALFORMED_HZ, lambda: malformed(generator)),
        "images": (LARGE_HZ, lambda: next(images)),
        "joints": (FLOOD_HZ, joints_of_another),
        "heartbeats": (FLOOD_HZ, heartbeat_of_another),
    }
    hz, one = make[what]
    fixed = one() if hz == FLOOD_HZ else None
    print("ready", flush=True)
    sys.stdin.readline()
    # Only now: a session does not begin where somebody else publishes on its streams.
    writers = [
        Writer(participant, TOPIC + topic, READ[topic][0], to_dds(READ[topic][1], writer=True)) for topic in topics
    ]
    outlets = [Forger(each, domain) for each in writers] if what == "malformed" else writers
    begun, sent = time.monotonic(), 0
    while (elapsed_s := time.monotonic() - begun) < seconds:
        while sent < elapsed_s * hz:
            data = one() if fixed is None else fixed
            outlets[sent % len(outlets)].write(data + bytes(-len(data) % 4))
            sent += 1
        time.sleep(0.001)
    print(sent, flush=True)
    participant.close()
    os._exit(0)


NEIGHBOURS: Mapping[str, tuple[str, int]] = {
    "nobody": ("", 0),
    "malformed messages on every topic we read": ("malformed", 0),
    "oversized images": ("images", 0),
    "flood of joint states in another domain": ("joints", 1),
    "flood of joint states, which the session reads": ("joints", 0),
    "flood of heartbeats, which the arm node reads": ("heartbeats", 0),
}
"""Name to what the process does and how far its domain is from ours."""


def run_beside(scene: Scene, what: str, away: int, domain: int, seconds: float, seed: int) -> dict[str, Any]:
    """One episode with a neighbour."""
    observer, policy = scene.observer, scene.policy
    other = None
    if what:
        command = [sys.executable, "-m", "benchmarks.ros.neighbours", "--actor", what, "--seconds", str(seconds + 2)]
        other = subprocess.Popen(
            command,
            env={**os.environ, "ROS_DOMAIN_ID": str(domain + away)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        other.stdout.readline()
    observer.wait_camera(time.monotonic_ns())
    before = {name: cpu_s(process.popen.pid) for name, process in (("arm", scene.arm), ("session", policy))}
    begun = time.monotonic()
    policy.ask(seed=seed, ticks=round(seconds * scene.bench.settings["robot"]["control_hz"]))
    policy.wait_for("connected")
    observer.wait_for("the episode", lambda: observer.mode.seed == seed and observer.mode.session)
    if other is not None:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
    observer.diagnostics.clear()
    ended = policy.wait_for("ended", timeout_s=60.0 + seconds)
    took_s = time.monotonic() - begun
    sent = 0
    if other is not None:
        assert other.stdout is not None
        sent = int(other.stdout.readline() or 0)
        other.wait()
    lines = list(observer.diagnostics)
    return {
        "sent": sent,
        "cadence": ended["cadence"],
        "counters": ended["counters"],
        "ended": ended["reason"],
        "mode": f"{observer.mode.mode}: {observer.mode.reason}",
        "arm_rate_hz": min((float(each["rate [Hz]"]) for each in lines), default=0.0),
        "arm_late_p99_us": max((float(each["lateness p99 [us]"]) for each in lines), default=0.0),
        "arm_late_max_us": max((float(each["lateness max [us]"]) for each in lines), default=0.0),
        "alive": all(process.popen.poll() is None for process in (scene.arm, scene.camera, policy)),
        "cpu": {
            name: (cpu_s(process.popen.pid) - before[name]) / took_s
            for name, process in (("arm", scene.arm), ("session", policy))
        },
        "recovered": observer.recover(),
    }


HEAD = (
    "| neighbour | messages | ticks | over budget | missed | late p50 / p99 / max [ms] | arm stream, worst second [Hz] "
    "| its lateness p99 / max [ms] | CPU of arm node, session | all live | episode ended |\n|" + "---|" * 11
)


def line(name: str, facts: Mapping[str, Any]) -> str:
    """One row of the table."""
    cadence = facts["cadence"]
    late = cadence.get("lateness_ms") or {"p50": 0.0, "p99": 0.0, "max": 0.0}
    columns = [
        name,
        f"{facts['sent']:,}",
        f"{cadence.get('ticks', 0)}",
        f"{cadence.get('over_budget_ticks', 0)}",
        f"{cadence.get('missed_deadlines', 0)}",
        f"{late['p50']:.2f} / {late['p99']:.2f} / {late['max']:.2f}",
        f"{facts['arm_rate_hz']:.0f}",
        f"{facts['arm_late_p99_us'] / 1000:.2f} / {facts['arm_late_max_us'] / 1000:.2f}",
        ", ".join(f"{100 * share:.0f} %" for share in facts["cpu"].values()),
        "yes" if facts["alive"] else "NO",
        facts["ended"].replace("|", "/"),
    ]
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of every episode")
    parser.add_argument("--only", nargs="+", default=[""], help="neighbours whose name holds one of these")
    parser.add_argument("--output", type=Path, default=Path("runs/ros_faults"))
    parser.add_argument("--domain", type=int, default=93, help="ROS_DOMAIN_ID; the one above is used as well")
    parser.add_argument("--actor", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.actor:
        neighbour(arguments.actor, arguments.seconds)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(HEAD, flush=True)
    # CycloneDDS tells each of thousands of malformed packets.
    log = (arguments.output / "neighbours.log").open("w")
    os.dup2(log.fileno(), sys.stderr.fileno())
    results, lines = {}, []
    wanted = [each for each in NEIGHBOURS.items() if any(word in each[0] for word in arguments.only)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, ExitStack() as stack:
        scene = stack.enter_context(Scene("plain", Path(place), arguments.domain))
        for seed, (name, (what, away)) in enumerate(wanted, start=1):
            results[name] = run_beside(scene, what, away, arguments.domain, arguments.seconds, seed)
            lines.append(line(name, results[name]))
            print(lines[-1], flush=True)
    (arguments.output / "neighbours.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.output / "neighbours.md").write_text("\n".join([HEAD, *lines]) + "\n")


if __name__ == "__main__":
    main()
