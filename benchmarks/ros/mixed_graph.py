"""What arrives of what is sent between our client and real rclpy on Fast DDS, on this machine.

    ROBOT_RL_ROS_JAZZY=.../bin/python ROBOT_RL_ROS_KILTED=.../bin/python python -m benchmarks.ros.mixed_graph

Both sides are processes of their own on loopback, in a domain of their own. Samples of every type that robot-rl's nodes
use, 60 at 30 Hz; what a publisher latched before the other side came; images, 90 at 30 Hz, depth 5; node names; a
service. A message counts if it equals the one sent. `--pair ours ours` or `--pair kilted kilted` shows one middleware
with itself; `--images` runs the images only. Writes `mixed_graph.json` and `mixed_graph.md` into the output directory.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.hardware.ros.mixed.neighbour import DISTRIBUTIONS, Neighbour, clean, python_of, variable

OURS = "ours"
COUNT, HZ = 60, 30.0
IMAGES, IMAGE_HZ, IMAGE_DEPTH = 90, 30.0, 5
SIZES = {"640x480": (640, 480), "1280x720": (1280, 720)}
IMAGE = "sensor_msgs/msg/Image"
LATCHED = ("std_msgs/msg/String", "sensor_msgs/msg/JointState")
LARGE_DATA = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}
ANSWER_S = 5.0


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        pair: The two sides.
        what: Type, and what is special about it.
        sent: Messages.
        there: Of them arrived from the first side at the second.
        back: And the other way.
    """

    pair: str
    what: str
    sent: int
    there: Any
    back: Any


class Pair:
    """Two sides of one graph, each a process.

    Args:
        names: `ours`, `jazzy` or `kilted`, twice.
        domain: ROS_DOMAIN_ID.
        variables: Added to the environment of sides on rclpy.
        as_up: Sides on rclpy talk as nodes do that `robot-rl up` starts.
    """

    def __init__(self, names: tuple[str, str], domain: int, variables: dict[str, str], as_up: bool = False) -> None:
        self.name = " - ".join(names) + "".join(f" {value}" for value in variables.values()) + " as up" * as_up
        self._arguments = ("as_up",) if as_up else ()
        self._count = itertools.count()
        self.sides = [self._start(each, index, domain, variables) for index, each in enumerate(names)]

    def _start(self, name: str, index: int, domain: int, variables: dict[str, str]) -> Neighbour:
        joined = {"ROS_DOMAIN_ID": str(domain)} | ({"ROBOT_RL_ROS": "pip"} if name == OURS else variables)
        for kept in ("CYCLONEDDS_URI",) if name == OURS else ():
            joined |= {kept: os.environ[kept]} if kept in os.environ else {}
        python = Path(sys.executable) if name == OURS else python_of(name)
        assert python is not None
        return Neighbour(python, clean(joined), f"side_{index}", () if name == OURS else self._arguments)

    def close(self) -> str:
        """Ends both; what they wrote on standard error."""
        return "".join(side.close() for side in self.sides)

    def delivered(
        self, types: list[str], qos: dict[str, Any], count: int, hz: float, pixels: tuple[int, int] | None = None
    ) -> list[dict[str, int]]:
        """Sound messages by type, from the first side to the second and back."""
        return [
            self._one_way(sender, reader, types, qos, count, hz, pixels)
            for sender, reader in (self.sides, self.sides[::-1])
        ]

    def _one_way(
        self,
        sender: Neighbour,
        reader: Neighbour,
        types: list[str],
        qos: dict[str, Any],
        count: int,
        hz: float,
        pixels: Any,
    ) -> dict[str, int]:
        number = next(self._count)
        topics = {f"/way_{number}/{each.replace('/', '_')}": each for each in types}
        sender.call("offer", topics=topics, qos=qos)
        if qos.get("latched"):
            sender.call("send", topics=topics, count=count, hz=hz)
        reader.call("listen", topics=topics, qos=qos, pixels=pixels)
        if not qos.get("latched"):
            sender.call("matched", topics=[*topics])
            time.sleep(0.5)  # the reader learns of the writer on its own
            sender.begin("send", topics=topics, count=count, hz=hz, pixels=pixels)
            reader.begin("counts", topics=[*topics], count=count)
            sender.answer()
            reader.answer()
        counted = reader.call("counts", topics=[*topics], count=count)
        return {topics[topic]: got for topic, got in counted.items()}


def types_and_graph(pair: Pair) -> Iterator[Row]:
    """Every type that both have, latched ones, names of nodes, a service."""
    first, second = pair.sides
    theirs = second.call("types")
    types = [each for each in first.call("types") if each in theirs]
    there, back = pair.delivered(types, {"depth": COUNT}, COUNT, HZ)
    yield from (Row(pair.name, each, COUNT, there[each], back[each]) for each in types)
    there, back = pair.delivered([*LATCHED], {"latched": True, "depth": 1}, 1, HZ)
    yield from (Row(pair.name, f"{each}, latched before", 1, there[each], back[each]) for each in LATCHED)
    seen = ["side_0" in second.call("nodes", wanted="side_0"), "side_1" in first.call("nodes", wanted="side_1")]
    yield Row(pair.name, "node's name seen", 1, *map(int, seen))


def service(pair: Pair) -> Row:
    """Whether a service of each is seen by the other, and whether it answers."""
    answers = []
    for server, client in (pair.sides[::-1], pair.sides):
        name = f"/service_{next(pair._count)}"
        server.call("serve", name=name)
        asked = client.call("ask", name=name, timeout_s=ANSWER_S)
        answers.append("answered" if asked["answered"] else "there, silent" if asked["there"] else "not there")
    return Row(pair.name, "service asked from there, from here", 1, *answers[::-1])


def images(pair: Pair) -> Iterator[Row]:
    """Uncompressed images of two sizes, reliable and best effort."""
    for (size, pixels), reliable in itertools.product(SIZES.items(), (False, True)):
        qos = {"reliable": reliable, "depth": IMAGE_DEPTH}
        there, back = pair.delivered([IMAGE], qos, IMAGES, IMAGE_HZ, pixels)
        what = f"{IMAGE} {size}, {'reliable' if reliable else 'best effort'}"
        yield Row(pair.name, what, IMAGES, there[IMAGE], back[IMAGE])


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = ["| pair | what | sent | arrived there | arrived back |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def measure(names: tuple[str, str], arguments: argparse.Namespace) -> Iterator[Row]:
    """All rows of one pair."""
    variables = LARGE_DATA if arguments.large_data else {}
    pair = Pair(names, arguments.domain, variables, arguments.as_up)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: sys.stderr.write(pair.close()))
        if not arguments.images:
            yield from types_and_graph(pair)
            yield service(pair)
        yield from images(pair)


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs=2, action="append", choices=(OURS, *DISTRIBUTIONS), metavar="SIDE")
    parser.add_argument("--images", action="store_true", help="images only")
    parser.add_argument(
        "--large-data", action="store_true", help="sides on rclpy get FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA"
    )
    parser.add_argument("--as-up", action="store_true", help="sides on rclpy get the profile that `robot-rl up` gives")
    parser.add_argument("--domain", type=int, default=97)
    parser.add_argument("--output", type=Path, default=Path("runs/ros_mixed_graph"))
    arguments = parser.parse_args()
    pairs = arguments.pair or [(OURS, each) for each in DISTRIBUTIONS]
    missing = sorted({variable(each) for pair in pairs for each in pair if each != OURS and python_of(each) is None})
    if missing:
        parser.error(f"{' and '.join(missing)} must name the Python of a real ROS 2; make test-ros makes both")
    rows = []
    for pair in pairs:
        for row in measure(tuple(pair), arguments):
            rows.append(row)
            sys.stdout.write(markdown([row]).splitlines()[-1] + "\n")
            sys.stdout.flush()
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "mixed_graph.json").write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    (arguments.output / "mixed_graph.md").write_text(markdown(rows))


if __name__ == "__main__":
    main()
