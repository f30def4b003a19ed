"""A ROS 2 bag, MCAP or sqlite3, read with `rosbags`: what it holds, its messages in order, what is wrong with it."""

from __future__ import annotations

import difflib
import heapq
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

STORAGE = (".mcap", ".db3")
METADATA = "metadata.yaml"
SQLITE_HEADER_BYTES = 100


class BagError(RobotRLError):
    """A bag that cannot be read, or that does not hold what the robot's yaml asks for."""


class Recorded(NamedTuple):
    """A topic as the bag has it: its type (several, joined by commas, if it changed) and how many messages."""

    type_name: str
    messages: int


class Arrival(NamedTuple):
    """A message and when it arrived at the recorder [ns]."""

    topic: str
    arrival_ns: int
    message: Any

    @property
    def stamp_ns(self) -> int:
        """Its header's stamp [ns]; its arrival where it has no header or an empty one."""
        header = getattr(self.message, "header", None)
        stamp_ns = 0 if header is None else header.stamp.sec * NS_PER_S + header.stamp.nanosec
        return stamp_ns or self.arrival_ns


@dataclass(frozen=True)
class BagTopic:
    """A topic that is to be read.

    Attributes:
        name: Absolute.
        types: Message types that it may have; any if empty.
        purpose: What it is for, in errors: `stream 'joint_position'`.
    """

    name: str
    types: tuple[str, ...]
    purpose: str


class BagFile:
    """An opened bag. A context manager.

    Args:
        path: A bag's directory, or a single `.mcap` or `.db3` file.

    Raises:
        BagError: It cannot be read; cut off, empty, or no bag.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise BagError(f"{path} does not exist; wanted a ROS 2 bag: a directory, an .mcap or a .db3 file")
        if path.is_dir() and not (path / METADATA).exists():
            held = ", ".join(sorted(each.name for each in path.iterdir())[:8]) or "nothing"
            raise BagError(
                f"{path} has no {METADATA}, so its recorder did not end properly; it holds {held}. "
                f"Run 'ros2 bag reindex {path}', or name the .mcap or .db3 file itself"
            )
        for file in [path] if path.is_file() else sorted(path.glob("*.db3")):
            _check_pages(file)
        with self._explained("opened"):
            # Bags of Humble's sqlite3 recorder hold no definitions; those of standard messages have not changed since.
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))

    def __enter__(self) -> Self:
        with self._explained("opened"):
            self._reader.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    @property
    def topics(self) -> Mapping[str, Recorded]:
        """Every topic of the bag, by absolute name."""
        types: dict[str, set[str]] = {}
        counts: dict[str, int] = {}
        for each in self._reader.connections:
            types.setdefault(each.topic, set()).add(each.msgtype)
            counts[each.topic] = counts.get(each.topic, 0) + each.msgcount
        return {name: Recorded(", ".join(sorted(types[name])), counts[name]) for name in sorted(types)}

    def require(self, topics: Iterable[BagTopic]) -> None:
        """Refuses a bag that lacks a topic, has it with another type, or holds no message of it.

        Raises:
            BagError: One line for each such topic, then everything that the bag has.
        """
        recorded = self.topics
        problems = [problem for topic in topics if (problem := _problem(topic, recorded))]
        if problems:
            held = "\n  ".join(f"{name}  {each.type_name}  {each.messages}" for name, each in recorded.items())
            raise BagError("\n".join([f"{self.path}:", *problems, f"the bag has\n  {held or 'no topic at all'}"]))

    def messages(self, topics: Sequence[str]) -> Iterator[Arrival]:
        """The messages of some topics in the order in which they arrived.

        Raises:
            BagError: The file ends or is damaged before its last message.
        """
        chosen = [each for each in self._reader.connections if each.topic in topics]
        if not chosen:
            return
        count = 0
        with self._explained("read to its end"):
            for connection, arrival_ns, data in self._reader.messages(chosen):
                yield Arrival(connection.topic, arrival_ns, self._reader.deserialize(data, connection.msgtype))
                count += 1
        promised = sum(each.msgcount for each in chosen)
        if count < promised:
            raise BagError(
                f"{self.path} holds {count} of {promised} messages on {', '.join(sorted(topics))}: it is cut off or a "
                "part of it is missing. Copy it again, or run 'ros2 bag reindex' on a copy to import what is there"
            )

    def by_stamp(self, topics: Sequence[str]) -> Iterator[Arrival]:
        """The same as if each message had arrived at the very time of its stamp."""

        def one(topic: str) -> Iterator[Arrival]:
            # A reader of its own: readers of one file move each other's place in it.
            with BagFile(self.path) as own:
                for each in own.messages([topic]):
                    yield each._replace(arrival_ns=each.stamp_ns)

        yield from heapq.merge(*map(one, topics), key=lambda each: each.arrival_ns)

    def _explained(self, done: str) -> _Explained:
        return _Explained(self.path, done)


class _Explained:
    """Turns whatever a damaged file makes of the parser into a `BagError`."""

    def __init__(self, path: Path, done: str) -> None:
        self._path, self._done = path, done

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # `rosbags` lets struct, zstd, sqlite and index errors through for files that end in the middle.
        if isinstance(error, Exception) and not isinstance(error, RobotRLError):
            raise BagError(
                f"{self._path} cannot be {self._done} ({type(error).__name__}: {error}): it is cut off, damaged or no "
                "ROS 2 bag. Copy it again, or try 'mcap recover' or 'ros2 bag reindex' on a copy"
            ) from error


def _check_pages(file: Path) -> None:
    """Refuses an sqlite3 file shorter than its header says: sqlite reads the pages that are missing as zeros."""
    with file.open("rb") as opened:
        header = opened.read(SQLITE_HEADER_BYTES)
    if not header.startswith(b"SQLite format 3") or len(header) < SQLITE_HEADER_BYTES:
        return
    page_bytes, change, pages = struct.unpack_from(">H6xII", header, 16)
    [valid_for] = struct.unpack_from(">I", header, 92)
    wanted = pages * (page_bytes if page_bytes != 1 else 65536)
    if change == valid_for and file.stat().st_size < wanted:
        raise BagError(
            f"{file} cannot be read to its end: it is cut off at {file.stat().st_size} of {wanted} bytes. Copy it again"
        )


def bags_at(source: Path) -> list[Path]:
    """The bag that a path is, or the bags in that directory, by name.

    Raises:
        BagError: None is there.
    """
    if source.is_file() or not source.is_dir() or (source / METADATA).exists():
        return [source]
    inside = sorted(each.parent for each in source.glob(f"*/{METADATA}"))
    files = sorted(each for each in source.iterdir() if each.suffix in STORAGE)
    if inside or len(files) != 1:
        if not inside:
            raise BagError(f"{source} holds no bag: wanted {METADATA} in it or in its directories, or one file itself")
        return inside
    return files


def _problem(topic: BagTopic, recorded: Mapping[str, Recorded]) -> str | None:
    found = recorded.get(topic.name)
    if found is None:
        near = difflib.get_close_matches(topic.name, recorded, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}? Set it in the robot's yaml" if near else ""
        return f"no topic {topic.name} for {topic.purpose}{hint}"
    if topic.types and found.type_name not in topic.types:
        return f"{topic.name} for {topic.purpose} is {found.type_name}, wanted {' or '.join(topic.types)}"
    if found.messages == 0:
        return f"{topic.name} for {topic.purpose} is there, but without a single message; was it published meanwhile?"
    return None
