"""What a dataset holds: episodes as they are stored, and how they turn into `robot_rl.core.episode.Episode` and back.

Stored layout (zarr v3, see `store.py`), `T` ticks, `N` frames of one stream, `A` action dimensions:

    /                                  attributes: format, spec, codecs, next_episode
    episodes/<id>/                     attributes: uuid, header, result, bytes
        stamps_ns        (T,)   int64
        requested        (T, A)        dtype of the action
        applied          (T, A)
        source           (T,)   uint8  0 policy, 1 operator
        reward           (T,)   float32
        filter_reasons   (T,)   uint32
        streams/<name>/
            stamps_ns    (N,)   int64  capture times
            frame_index  (T,)   int64  the frame each tick saw
            values       (N, *shape)   any stream but a camera's
            bytes        (M,)   uint8  a camera's compressed frames end to end; attribute: codec
            offsets      (N+1,) int64  frame i is bytes[offsets[i]:offsets[i+1]]

A frame seen by several ticks is stored once. Compressed frames are never re-encoded on their way from the camera's
thread to the archive, nor between two datasets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from data.archive.codecs import DEFAULT_CODEC, Codec
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, RobotSpec

FORMAT_VERSION = 1
TICK_COLUMNS = ("stamps_ns", "requested", "applied", "source", "reward", "filter_reasons")
"""Fields of an `Episode` with one row per tick."""
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class DatasetError(RobotRLError):
    """A dataset is missing, damaged, locked, or given something that it cannot hold."""


class ByteRange(Protocol):
    """A run of bytes that is read piece by piece: an array, a stored array, frames in a log."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True)
class CompressedStream:
    """Every distinct frame of one camera, compressed: frame `i` is `data[offsets[i]:offsets[i + 1]]`.

    Attributes:
        stamps_ns: Capture times, ascending [ns]. Shape (N,).
        offsets: Shape (N+1,), from 0 to the length of `data`.
        data: Compressed frames end to end.
        codec: Name of the codec, see `codecs.Codec`.
    """

    stamps_ns: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    data: ByteRange
    codec: str

    @classmethod
    def of(cls, stamps_ns: npt.ArrayLike, frames: Sequence[bytes], codec: str) -> Self:
        """The stream of these compressed frames, N of them as of the stamps [ns]."""
        data = np.frombuffer(b"".join(frames), dtype=np.uint8)
        return cls(np.asarray(stamps_ns, np.int64), offsets_of([len(frame) for frame in frames]), data, codec)

    def frame(self, index: int) -> bytes:
        """The compressed bytes of one frame."""
        return self.data[int(self.offsets[index]) : int(self.offsets[index + 1])].tobytes()


@dataclass(frozen=True)
class EncodedEpisode:
    """An episode as it is stored.

    Attributes:
        uuid: Names the recording itself: the same log committed twice is still one episode.
        episode: Everything but the compressed streams' frames; it knows which of them each tick saw.
        compressed: Camera stream to its frames.
    """

    uuid: str
    episode: Episode
    compressed: Mapping[str, CompressedStream]

    def __len__(self) -> int:
        """Number of ticks."""
        return len(self.episode)

    @property
    def streams(self) -> dict[str, Stream | CompressedStream]:
        """Every stream, compressed or not; those of the spec in its order."""
        held: dict[str, Stream | CompressedStream] = {**self.episode.streams, **self.compressed}
        return {name: held[name] for name in [*self.episode.spec.observations, *held] if name in held}


@dataclass(frozen=True)
class EpisodeInfo:
    """What can be said of a stored episode without reading a frame.

    Attributes:
        id: Stable for ever, six digits or more.
        header: What was known when it began.
        result: What was known when it ended.
        bytes: Size of its arrays before zarr's own compression.
        uuid: Name of the recording itself.
        digest: Of everything it holds, see `digest.digest_of`; empty for an episode stored without one.
    """

    id: str
    header: EpisodeHeader
    result: EpisodeResult
    bytes: int
    uuid: str
    digest: str = ""


@dataclass(frozen=True)
class SnapshotInfo:
    """One state of a dataset that can be opened again. `written_at` is UTC, ISO 8601."""

    id: str
    written_at: str
    message: str
    tags: tuple[str, ...] = field(default=())


def full_codecs(spec: RobotSpec, codecs: Mapping[str, str] | None) -> dict[str, str]:
    """A codec for every camera of `spec`, the default where none is named.

    Raises:
        DatasetError: A codec for a stream that is not a camera.
        CodecError: A codec that does not exist.
    """
    named = dict(codecs or {})
    for name, codec in named.items():
        if name not in spec.images:
            cameras = ", ".join(spec.images) or "none"
            raise DatasetError(f"codec '{codec}' is for '{name}', which is no camera stream; cameras: {cameras}")
    return {name: str(Codec.parse(named.get(name, DEFAULT_CODEC))) for name in spec.images}


def encode_episode(episode: Episode, codecs: Mapping[str, str], uuid: str) -> EncodedEpisode:
    """Compresses the cameras of an episode; a codec for each of them."""
    compressed = {name: _compress(stream, codecs[name]) for name, stream in episode.streams.items() if name in codecs}
    others = {name: stream for name, stream in episode.streams.items() if name not in codecs}
    return EncodedEpisode(uuid, dataclasses.replace(episode, streams=others), compressed)


def decode_episode(encoded: EncodedEpisode, streams: Sequence[str] | None = None) -> Episode:
    """Decompresses the cameras of an episode.

    Args:
        encoded: As stored.
        streams: Only these, in this order; None for all. The result's spec names the same ones.

    Raises:
        SpecMismatch: A stream that the episode does not have.
        CodecError: A damaged frame.
    """
    episode, stored = encoded.episode, encoded.streams
    spec = episode.spec if streams is None else episode.spec.select(streams)
    decoded = {name: _decompress(stored[name], spec, name) for name in spec.observations}
    index = {name: episode.frame_index[name] for name in spec.observations}
    return dataclasses.replace(episode, spec=spec, streams=decoded, frame_index=index)


def _compress(stream: Stream, name: str) -> CompressedStream:
    codec = Codec.parse(name)
    return CompressedStream.of(stream.stamps_ns, [codec.encode(frame) for frame in stream.values], name)


def _decompress(stream: Stream | CompressedStream, spec: RobotSpec, name: str) -> Stream:
    if isinstance(stream, Stream):
        return stream
    codec, shape = Codec.parse(stream.codec), spec.observations[name]
    values = np.empty((len(stream.stamps_ns), *shape.shape), dtype=np.uint8)
    # One read for the whole stream: piecewise reads of a stored array would fetch most chunks twice.
    data = memoryview(stream.data[0 : len(stream.data)].tobytes())
    for index, (start, stop) in enumerate(zip(stream.offsets[:-1], stream.offsets[1:], strict=True)):
        values[index] = codec.decode(data[start:stop], shape)
    return Stream(stream.stamps_ns, values)


def offsets_of(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where frames of these lengths begin when laid end to end, and where the last ends. Shape (N+1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def spec_differences(dataset: RobotSpec, offered: RobotSpec) -> list[str]:
    """Every field in which a robot differs from the one a dataset was recorded with; [] if they are equal.

    A dataset holds one robot only, so here any difference counts, not just those that a policy would mind; bounds of
    speed alone make no other robot.
    """
    ours, theirs = (_flat(each.without_speed_bounds().to_json()) for each in (dataset, offered))
    differences = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        if ours.get(key, _ABSENT) != theirs.get(key, _ABSENT):
            differences.append(f"{key}: dataset has {ours.get(key, _ABSENT)!s}, robot has {theirs.get(key, _ABSENT)!s}")
    return differences


_ABSENT = "nothing"


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Paths such as `observations.state.shape` to their values."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def problems_of(encoded: EncodedEpisode) -> list[str]:
    """Every way in which an episode's columns contradict each other or its spec; [] if none."""
    episode, streams = encoded.episode, encoded.streams
    spec, ticks = episode.spec, len(episode)
    wanted: dict[str, tuple[AnyArray, tuple[int, ...], str]] = {
        "stamps_ns": (episode.stamps_ns, (ticks,), "int64"),
        "requested": (episode.requested, (ticks, *spec.action.shape), spec.action.dtype),
        "applied": (episode.applied, (ticks, *spec.action.shape), spec.action.dtype),
        "source": (episode.source, (ticks,), "uint8"),
        "reward": (episode.reward, (ticks,), "float32"),
        "filter_reasons": (episode.filter_reasons, (ticks,), "uint32"),
    }
    for name, stream in streams.items():
        if name not in spec.observations:
            continue
        frames = len(stream.stamps_ns)
        wanted[f"streams.{name}.stamps_ns"] = (stream.stamps_ns, (frames,), "int64")
        wanted[f"streams.{name}.frame_index"] = (episode.frame_index[name], (ticks,), "int64")
        if isinstance(stream, Stream):
            shape = spec.observations[name]
            wanted[f"streams.{name}.values"] = (stream.values, (frames, *shape.shape), shape.dtype)
        else:
            wanted[f"streams.{name}.offsets"] = (stream.offsets, (frames + 1,), "int64")
    problems = [
        f"{name}: {array.dtype} {array.shape}, wanted {dtype} {shape}"
        for name, (array, shape, dtype) in wanted.items()
        if array.shape != shape or array.dtype != np.dtype(dtype)
    ]
    if episode.result.ticks != ticks:
        problems.append(f"result.ticks: {episode.result.ticks}, but {ticks} ticks are there")
    return problems + _stream_problems(episode, streams)


def _stream_problems(episode: Episode, streams: Mapping[str, Stream | CompressedStream]) -> list[str]:
    problems = []
    for name in episode.spec.observations:
        if name not in streams or name not in episode.frame_index:
            problems.append(f"streams.{name}: missing; the spec asks for it")
            continue
        stream, index = streams[name], episode.frame_index[name]
        if len(index) and not (index.min() >= 0 and index.max() < len(stream.stamps_ns)):
            problems.append(f"streams.{name}.frame_index: points outside its {len(stream.stamps_ns)} frames")
        if isinstance(stream, CompressedStream) and len(stream.offsets) and stream.offsets[-1] != len(stream.data):
            problems.append(
                f"streams.{name}.offsets: end at {stream.offsets[-1]}, but {len(stream.data)} bytes are there"
            )
    extra = [name for name in streams if name not in episode.spec.observations]
    return problems + [f"streams.{name}: not in the spec" for name in extra]


def header_to_json(header: EpisodeHeader) -> dict[str, Any]:
    """A dictionary that strict JSON can hold."""
    return dataclasses.asdict(header)


def header_from_json(document: Mapping[str, Any]) -> EpisodeHeader:
    """The header that `header_to_json` wrote."""
    return EpisodeHeader(**document)


def result_to_json(result: EpisodeResult) -> dict[str, Any]:
    """A dictionary that strict JSON can hold."""
    fields = {each.name: getattr(result, each.name) for each in dataclasses.fields(result)}
    document: dict[str, Any] = to_strict_json({**fields, "outcome": str(result.outcome)})
    return document


def result_from_json(document: Mapping[str, Any]) -> EpisodeResult:
    """The result that `result_to_json` wrote."""
    fields = from_strict_json(document)
    return EpisodeResult(**{**fields, "outcome": Outcome(fields["outcome"])})


def to_strict_json(value: Any) -> Any:
    """The same document with NaN and infinities as strings: JSON has no word for them and Icechunk refuses them."""
    if isinstance(value, Mapping):
        return {str(key): to_strict_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_strict_json(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def from_strict_json(value: Any) -> Any:
    """The document that `to_strict_json` was given, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: from_strict_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [from_strict_json(each) for each in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
