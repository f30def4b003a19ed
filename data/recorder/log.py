"""The append-only log of one running episode: what was acknowledged survives the death of the process.

A log is a magic number followed by records. A record is its body's length and CRC-32 (two little-endian uint32) and
the body: one byte that says its kind, then

    H   JSON: uuid, spec, header, codecs; always first
    F   stream number (uint16), capture stamp (int64), then the frame: compressed, or an array's bytes in C order
    T   one tick, see `tick_dtype`; frames are counted per stream, from 0
    E   JSON: the result; always last, absent while the episode runs

The records of one step go to the kernel in one write, frames first, so that a reader never meets a tick whose frames
are missing. Reading stops at the first record that is incomplete or does not match its CRC.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from data.archive.schema import (
    TICK_COLUMNS,
    CompressedStream,
    EncodedEpisode,
    from_strict_json,
    header_from_json,
    header_to_json,
    offsets_of,
    result_from_json,
    result_to_json,
    to_strict_json,
)
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Step, Stream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import sync
from robot_rl.core.specs import ArraySpec, RobotSpec

MAGIC = b"RRLOG1\r\n"
SUFFIX = ".log"
_RECORD = struct.Struct("<II")
_FRAME = struct.Struct("<cHq")


class LogError(RobotRLError):
    """A log cannot be written, or holds nothing that can be read."""


@dataclass(frozen=True)
class LogHead:
    """What a log knows from its first record on. `codecs` has one name per camera stream."""

    uuid: str
    spec: RobotSpec
    header: EpisodeHeader
    codecs: Mapping[str, str]


def tick_dtype(spec: RobotSpec) -> np.dtype[np.void]:
    """The packed record of one tick; `frames` counts per stream in the spec's order."""
    action = (spec.action.dtype, spec.action.shape)
    return np.dtype(
        [
            ("stamps_ns", "<i8"),
            ("source", "u1"),
            ("reward", "<f4"),
            ("filter_reasons", "<u4"),
            ("frames", "<u4", (len(spec.observations),)),
            ("requested", *action),
            ("applied", *action),
        ]
    )


def record(kind: bytes, *parts: bytes) -> bytes:
    """A framed record."""
    body = b"".join((kind, *parts))
    return _RECORD.pack(len(body), zlib.crc32(body)) + body


def frame_record(stream: int, stamp_ns: int, frame: bytes) -> bytes:
    """The record of one frame of the stream with this number."""
    return record(_FRAME.pack(b"F", stream, stamp_ns), frame)


def tick_record(step: Step, frames: Sequence[int], dtype: np.dtype[np.void]) -> bytes:
    """The record of one tick that saw these frames."""
    row = np.zeros((), dtype)
    row["stamps_ns"] = step.observation.stamp_ns
    row["source"] = step.source
    row["reward"] = step.reward
    row["filter_reasons"] = step.filter_reasons
    row["frames"] = frames
    row["requested"] = step.requested
    row["applied"] = step.applied
    return record(b"T", row.tobytes())


class LogWriter:
    """Appends records to a new log.

    Attributes:
        path: Where it is.
        head: Its first record.
    """

    def __init__(self, path: Path, head: LogHead) -> None:
        self.path = path
        self.head = head
        document = {
            "uuid": head.uuid,
            "spec": to_strict_json(head.spec.to_json()),
            "header": header_to_json(head.header),
            "codecs": dict(head.codecs),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise LogError(f"cannot record into {path.parent}: {error.strerror}") from error
        self._size = 0
        self._name_is_safe = False
        try:
            self.write(MAGIC, record(b"H", json.dumps(document).encode()))
        except LogError:
            self.close()
            path.unlink()
            raise

    def write(self, *records: bytes) -> None:
        """Returns when the kernel has all of the records: from then on SIGKILL cannot take them away.

        Raises:
            LogError: The disk is full or failed; the log is as it was before.
        """
        data = memoryview(b"".join(records))
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError as error:
            # Half a record would hide every later one from the reader.
            os.ftruncate(self._descriptor, self._size)
            advice = "free space on its disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its disk"
            raise LogError(f"cannot write to log {self.path}: {error.strerror}; {advice}") from error
        self._size += done

    def finish(self, result: EpisodeResult) -> None:
        """Writes the last record."""
        self.write(record(b"E", json.dumps(result_to_json(result)).encode()))

    def sync(self) -> None:
        """Returns when everything written so far survives a power loss.

        Raises:
            LogError: The disk failed.
        """
        try:
            os.fdatasync(self._descriptor)
            if not self._name_is_safe:
                sync(self.path.parent)
                self._name_is_safe = True
        except OSError as error:
            raise LogError(f"cannot sync log {self.path}: {error.strerror}; check its disk") from error

    def close(self) -> None:
        """Closes the file; safe to call more than once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Place(NamedTuple):
    """A frame's capture stamp [ns] and where its bytes lie in the log."""

    stamp_ns: int
    start: int
    stop: int


def _stamps_of(frames: Sequence[_Place]) -> npt.NDArray[np.int64]:
    return np.array([each.stamp_ns for each in frames], dtype=np.int64)


class LogReader:
    """Everything that can be read of a log. A context manager, since frames stay in the mapped file.

    Attributes:
        path: Where it is.
        head: Its first record.
        result: The episode's own result; None if it did not come to its end.
        problem: Why reading stopped before the end of the file; None if it did not.
        torn: Whether the problem is just a last record cut short, which is what a killed writer leaves.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result: EpisodeResult | None = None
        self.problem: str | None = None
        self.torn = False
        with path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            if self._size == 0:
                raise _without_head(path, 0, torn=True)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.head = self._read_head()
            self._read_records()
        except BaseException:
            self._map.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def __len__(self) -> int:
        """Number of whole ticks."""
        return len(self._ticks)

    @property
    def rewards(self) -> npt.NDArray[np.float32]:
        """Reward of each tick. Shape (T,)."""
        return np.ascontiguousarray(self._ticks["reward"])

    def episode(self, result: EpisodeResult) -> EncodedEpisode:
        """What was recorded, under a result; frames that no tick saw are left out."""
        ticks, spec = self._ticks, self.head.spec
        streams: dict[str, Stream] = {}
        compressed: dict[str, CompressedStream] = {}
        frame_index = {}
        for number, name in enumerate(spec.observations):
            frame_index[name] = ticks["frames"][:, number].astype(np.int64)
            frames = self._frames[number][: int(frame_index[name].max(initial=-1)) + 1]
            if name in self.head.codecs:
                compressed[name] = self._compressed(frames, self.head.codecs[name])
            else:
                streams[name] = self._stream(frames, spec.observations[name])
        episode = Episode(
            spec=spec,
            header=self.head.header,
            result=result,
            streams=streams,
            frame_index=frame_index,
            **{name: np.ascontiguousarray(ticks[name]) for name in TICK_COLUMNS},
        )
        return EncodedEpisode(self.head.uuid, episode, compressed)

    def _read_head(self) -> LogHead:
        bodies = self._bodies(len(MAGIC)) if self._map[: len(MAGIC)] == MAGIC else iter(())
        start, stop = next(bodies, (0, 0))
        if self._map[start : start + 1] != b"H" or stop == 0:
            raise _without_head(self.path, self._size, self.torn)
        document = json.loads(self._map[start + 1 : stop])
        self._first = stop
        return LogHead(
            document["uuid"],
            RobotSpec.from_json(from_strict_json(document["spec"])),
            header_from_json(document["header"]),
            document["codecs"],
        )

    def _read_records(self) -> None:
        ticks: list[bytes] = []
        self._frames: list[list[_Place]] = [[] for _ in self.head.spec.observations]
        for start, stop in self._bodies(self._first):
            kind = self._map[start : start + 1]
            if kind == b"F":
                _, stream, stamp_ns = _FRAME.unpack_from(self._map, start)
                self._frames[stream].append(_Place(stamp_ns, start + _FRAME.size, stop))
            elif kind == b"T":
                ticks.append(self._map[start + 1 : stop])
            elif kind == b"E":
                self.result = result_from_json(json.loads(self._map[start + 1 : stop]))
        self._ticks = np.frombuffer(b"".join(ticks), tick_dtype(self.head.spec))

    def _bodies(self, position: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each record's body, up to the first bad record."""
        while position < self._size:
            start = position + _RECORD.size
            if start > self._size:
                self._stop(position, "is incomplete", torn=True)
                return
            length, crc = _RECORD.unpack_from(self._map, position)
            if start + length > self._size:
                self._stop(position, "is incomplete", torn=True)
                return
            if length == 0 or zlib.crc32(memoryview(self._map)[start : start + length]) != crc:
                # Zeros to the end are what a power loss leaves of a file that had grown.
                self._stop(position, "is damaged", torn=not any(self._map[position:]))
                return
            yield start, start + length
            position = start + length

    def _stop(self, position: int, what: str, torn: bool) -> None:
        self.problem = f"the record at byte {position} of {self._size} {what}"
        self.torn = torn

    def _stream(self, frames: Sequence[_Place], spec: ArraySpec) -> Stream:
        values = np.frombuffer(b"".join(self._map[each.start : each.stop] for each in frames), spec.dtype)
        return Stream(_stamps_of(frames), values.reshape(len(frames), *spec.shape))

    def _compressed(self, frames: Sequence[_Place], codec: str) -> CompressedStream:
        data = LoggedFrames(self._map, [(each.start, each.stop) for each in frames])
        return CompressedStream(_stamps_of(frames), data.offsets, data, codec)


class LoggedFrames:
    """Frames that lie apart in a log, seen as one run of bytes; a long episode never fills the memory.

    Attributes:
        offsets: Where each frame begins in the run, and where the last ends. Shape (N+1,).
    """

    def __init__(self, data: mmap.mmap, spans: Sequence[tuple[int, int]]) -> None:
        self.offsets = offsets_of([stop - start for start, stop in spans])
        self._data = data
        self._starts = [start for start, _ in spans]

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, key: slice, /) -> npt.NDArray[np.uint8]:
        start, stop, _ = key.indices(len(self))
        pieces: list[npt.NDArray[Any]] = [np.empty(0, np.uint8)]
        frame = int(np.searchsorted(self.offsets, start, side="right")) - 1
        while start < stop:
            take = min(stop, int(self.offsets[frame + 1])) - start
            position = self._starts[frame] + start - int(self.offsets[frame])
            pieces.append(np.frombuffer(self._data, np.uint8, take, position))
            start += take
            frame += 1
        return np.concatenate(pieces)


class LogWithoutHead(LogError):
    """A log's first record is incomplete (`torn`: nothing was recorded yet) or damaged."""

    def __init__(self, message: str, torn: bool) -> None:
        super().__init__(message)
        self.torn = torn


def _without_head(path: Path, size: int, torn: bool) -> LogWithoutHead:
    nothing_recorded = torn or size <= len(MAGIC)
    what = "ended before the episode began" if nothing_recorded else "does not begin like a log or is damaged"
    return LogWithoutHead(f"log {path} ({size} bytes) {what}: there is no episode to recover", nothing_recorded)
