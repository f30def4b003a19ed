"""Robot yamls as people and accidents spoil them, each put through `robot-rl up check=true`.

    python -m tests.robot_rl.commands.up.yaml_mutants --count 4000 --seed 1

prints every outcome that is neither "sound" nor a refusal in words, the slowest mutant and the largest memory.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from robot_rl.commands.up import main as up
from robot_rl.core.errors import RobotRLError

ROBOTS = Path(__file__).resolve().parents[4] / "configs/robot"
SHIPPED = sorted(path.relative_to(ROBOTS).with_suffix("").as_posix() for path in ROBOTS.rglob("*.yaml"))
LONGEST_S = 60.0
"""A mutant that runs for longer counts as a hang; ordinary ones take a fraction of a second."""


class Mutant(NamedTuple):
    """A spoilt yaml: which one, how, and its bytes."""

    robot: str
    how: str
    data: bytes


Draw = random.Random
Change = Callable[[Any, Draw], Any]

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 7, 0.0, -0.5, 1e-9, 1e300, -1e300, 10**30, 10**4000),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "x", "no", "nan", ".inf", "1.0", "a" * 10_000),
    *("../../etc/passwd", "/", "//", "a/b", "a b", "\x00", "\ud800", "ä", "None", "${robot}", "${nothing}"),
    *("${limits.low}", "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${", "${}", "${.}", "${a:}", "???", "%s{}"),
    *("os.system", "hardware.ros.robot.RosRobot", "robot_rl.core.errors.RobotRLError", "hardware.sim", ".", "math.inf"),
    *([], {}, [[]], [{}], [None], [1, "a", None], {"a": 1}, {"_target_": "os.system"}, {1: 2}, {None: 1}, {True: 1}),
    *(list(range(3000)), [0.0], ["a", "a"], [float("nan")], {"_target_": "builtins.print"}, {"_partial_": True}),
]
PLAIN = [
    "no",
    "on",
    "Yes",
    "OFF",
    "~",
    "1_0",
    "12:30",
    "0x1F",
    "010",
    "1e5",
    "1e999",
    "2020-01-01",
    "<<",
    "=",
    "*a",
    "&a",
]
LINES = [
    "\tx: 1",
    "x: [",
    "x: }",
    "---",
    "...",
    "%YAML 1.1",
    "? [a]: 1",
    "!!python/object/apply:os.abort []",
    "x: !!binary aGk=",
    "no: 1",
    "1: 2",
    "x: &a [*a]",
    "x: *nothing",
    "<<: 5",
    "<<: {robot: 1}",
    "defaults: 5",
    "defaults: [[]]",
    "defaults: [/robot/ros/ur5e]",
    "defaults: [{robot: nothing}]",
    "- 1",
    "x",
    ": :",
    "@",
    "'",
    '"',
    "{}",
    "robot:",
    "${x}: 1",
]


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """Seeded mutants of every shipped yaml in turn."""
    draw = Draw(seed)
    for index in range(count):
        robot = SHIPPED[index % len(SHIPPED)]
        text = (ROBOTS / f"{robot}.yaml").read_text()
        how = draw.choice(KINDS)
        data = how(text, draw)
        yield Mutant(
            robot,
            f"{seed}/{index} {how.__name__}",
            data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"),
        )


def _places(document: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else []
    )
    return [place for key, each in items for place in ((*way, key), *_places(each, (*way, key)))]


def _changed(text: str, draw: Draw, change: Callable[[Any, Any], None]) -> str:
    """The text with one place of its document changed by `change(container, key)`."""
    document = yaml.safe_load(text)
    way = draw.choice(_places(document))
    parent = document
    for key in way[:-1]:
        parent = parent[key]
    change(parent, way[-1])
    return "# @package _global_\n" + yaml.dump(document, allow_unicode=True, sort_keys=False)


def deleted(text: str, draw: Draw) -> str:
    return _changed(text, draw, lambda parent, key: parent.__delitem__(key))


def replaced(text: str, draw: Draw) -> str:
    return _changed(text, draw, lambda parent, key: parent.__setitem__(key, draw.choice(VALUES)))


def wrapped(text: str, draw: Draw) -> str:
    return _changed(
        text, draw, lambda parent, key: parent.__setitem__(key, draw.choice([[parent[key]], {"a": parent[key]}]))
    )


def as_text(text: str, draw: Draw) -> str:
    return _changed(text, draw, lambda parent, key: parent.__setitem__(key, str(parent[key])))


def negated(text: str, draw: Draw) -> str:
    def change(parent: Any, key: Any) -> None:
        value = parent[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        parent[key] = draw.choice([-value, value * 1e6, value * 1e-6, int(value)] if is_number else [0])

    return _changed(text, draw, change)


def renamed(text: str, draw: Draw) -> str:
    def change(parent: Any, key: Any) -> None:
        new = draw.choice([f"{key}x", str(key).upper(), "", "_target_", "a.b", "a b", None, True, 3, "${x}", "é"])
        if isinstance(parent, dict):
            parent[new] = parent.pop(key)
        else:
            parent.append(parent[key])

    return _changed(text, draw, change)


def swapped(text: str, draw: Draw) -> str:
    def change(parent: Any, key: Any) -> None:
        other = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key], parent[other] = parent[other], parent[key]

    return _changed(text, draw, change)


def twice(text: str, draw: Draw) -> str:
    return "\n".join([*text.splitlines(), draw.choice(text.splitlines())])


def without_line(text: str, draw: Draw) -> str:
    lines = text.splitlines()
    del lines[draw.randrange(len(lines))]
    return "\n".join(lines)


def odd_line(text: str, draw: Draw) -> str:
    lines = text.splitlines()
    at = draw.randrange(len(lines))
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines.insert(at, draw.choice(["", indent]) + draw.choice(LINES))
    return "\n".join(lines)


def plain_value(text: str, draw: Draw) -> str:
    """A scalar replaced by something that yaml 1.1 reads as something else."""
    marks = [
        (event.start_mark.index, event.end_mark.index)
        for event in yaml.parse(text)
        if isinstance(event, yaml.ScalarEvent)
    ]
    start, end = draw.choice(marks)
    return text[:start] + draw.choice(PLAIN) + text[end:]


def bytes_spoilt(text: str, draw: Draw) -> bytes:
    data = bytearray(text.encode())
    for _ in range(draw.choice([1, 1, 2, 20])):
        at = draw.randrange(len(data))
        data[at : at + draw.randrange(2)] = bytes(draw.randrange(256) for _ in range(draw.randrange(2)))
    return bytes(data)


def cut(text: str, draw: Draw) -> str:
    return text[: draw.randrange(len(text))]


def encoded(text: str, draw: Draw) -> bytes:
    return text.replace("#", "# ä").encode(draw.choice(["utf-16", "utf-8-sig", "latin-1", "utf-32", "cp037"]))


def nested(text: str, draw: Draw) -> str:
    depth = draw.choice([5, 20, 30, 300, 5000, 40_000])
    value = draw.choice([("[", "]"), ("{a: ", "}"), ("{'b': [", "]}")])
    key = draw.choice(["robot", "limits", "arm", "cameras", "task", "x"])
    lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    return "\n".join([*lines, f"{key}: {value[0] * depth}1{value[1] * depth}"])


def bomb(text: str, draw: Draw) -> str:
    """Nine generations of nine: by alias, by merge key, by reference to lists, or to text."""
    kind = draw.choice(["alias", "merge", "lists", "text", "chain", "circle", "middle"])
    generations = range(1, draw.choice([3, 9, 30]))
    if kind == "alias":
        lines = ["b0: &b0 [1]", *(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in generations)]
    elif kind == "merge":
        lines = [
            "b0: &b0 {a: 1}",
            *(f"b{i}: &b{i} {{<<: *b{i - 1}, k{i}: *b{i - 1}, l{i}: *b{i - 1}}}" for i in generations),
        ]
    elif kind == "chain":
        lines = [*(f"b{i}: '${{b{i + 1}}}'" for i in range(2000)), "b2000: 1"]
    elif kind == "circle":
        lines = ["b0: ${b1}", "b1: ${b2}", "b2: {a: '${b0}'}"]
    elif kind == "middle":
        lines = [
            "b0: {a: [1]}",
            *(f"b{i}: {{a: ['${{c{i}.a}}', '${{c{i}.a}}']}}\nc{i}: ${{b{i - 1}}}" for i in generations),
        ]
    else:
        one, many = ("[1]", "[{}]") if kind == "lists" else ("ha", "{}")
        lines = [
            f"b0: {one}",
            *(
                f"b{i}: "
                + many.format(
                    (", " if kind == "lists" else "").join(
                        [f"'${{b{i - 1}}}'" if kind == "lists" else f"${{b{i - 1}}}"] * 9
                    )
                )
                for i in generations
            ),
        ]
    indented = [
        "task:",
        *(
            "  " + line.replace("${b", "${task.b").replace("${c", "${task.c")
            for each in lines
            for line in each.splitlines()
        ),
    ]
    kept = [
        line
        for line in text.splitlines()
        if not line.startswith(("task:", "  name: reach", "  max_ticks", "  instruction", "  name: peg"))
    ]
    return "\n".join([*kept, *draw.choice([indented, lines])])


def long(text: str, draw: Draw) -> str:
    return text + draw.choice(
        [
            "# " + "x" * 300_000,
            "x: " + "9" * 20_000,
            "x: '" + "y" * 90_000 + "'",
            "\n".join(f"k{i}: {i}" for i in range(9000)),
            "x: [" + "1, " * 40_000 + "1]",
            "x: " + "[]\n  - " * 3,
        ]
    )


KINDS: list[Callable[[str, Draw], str | bytes]] = [
    *(
        deleted,
        deleted,
        replaced,
        replaced,
        replaced,
        replaced,
        wrapped,
        as_text,
        negated,
        negated,
        renamed,
        renamed,
        swapped,
    ),
    *(
        twice,
        without_line,
        odd_line,
        odd_line,
        plain_value,
        plain_value,
        bytes_spoilt,
        bytes_spoilt,
        cut,
        encoded,
        nested,
        bomb,
        long,
    ),
]


class Hang(BaseException):
    """A mutant took too long; not an Exception, so that nothing below takes it for one."""


@contextlib.contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def outcome(mutant: Mutant, place: Path) -> tuple[str, str]:
    """What becomes of a mutant: `sound`, `refused` or `broken`, and the words or the traceback.

    Args:
        mutant: To be checked.
        place: A user's directory of configs, which `ROBOT_RL_CONFIGS` names.
    """
    path = place / "robot/mutant.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mutant.data)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), _no_longer_than(LONGEST_S):
            up.main(["robot=mutant", "check=true", f"directory={place / 'out'}"])
    except RobotRLError as error:
        return "refused", str(error)
    except (Exception, SystemExit, Hang):
        return "broken", traceback.format_exc()
    return "sound", said.getvalue()


def main() -> int:
    """Runs many and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", default="", help="print every refusal and every sound mutant with this in it")
    arguments = parser.parse_args()
    counts, slowest = collections.Counter[str](), (0.0, "")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["ROBOT_RL_CONFIGS"] = directory
        for mutant in mutants(arguments.seed, arguments.count):
            began = time.monotonic()
            what, words = outcome(mutant, Path(directory))
            slowest = max(slowest, (time.monotonic() - began, f"{mutant.robot} {mutant.how}"))
            counts[what] += 1
            if what == "broken" or (arguments.show and arguments.show in f"{what} {words}"):
                sys.stdout.write(f"{what} {mutant.robot} {mutant.how}\n{words}\n")
                sys.stdout.flush()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{dict(counts)}; slowest {slowest[0]:.2f} s ({slowest[1]}); peak {peak_mib:.0f} MiB\n")
    return int(counts["broken"] > 0)


if __name__ == "__main__":
    sys.exit(main())
