"""Where each part of an episode lies in zarr groups; `schema.py` draws the picture.

Chunk sizes were chosen by `benchmarks/storage/chunks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from data.archive.codecs import Codec
from data.archive.digest import digest_of
from data.archive.errors import explained
from data.archive.schema import (
    FORMAT_VERSION,
    TICK_COLUMNS,
    CompressedStream,
    DatasetError,
    EncodedEpisode,
    EpisodeInfo,
    header_from_json,
    header_to_json,
    result_from_json,
    result_to_json,
    to_strict_json,
)
from robot_rl.core.episode import Episode, Stream
from robot_rl.core.specs import AnyArray, RobotSpec

CHUNK_BYTES = 4 << 20
"""Numbers are read a whole stream at a time: large chunks, few files."""
FRAME_CHUNK_BYTES = 1 << 20
"""Compressed frames are also read a few at a time: 4 MiB costs a tenth of the random windows per second, 16 MiB
more than half, and 256 KiB makes three times the files for little gain (`benchmarks/storage/chunks.py`)."""
NUMBER_COMPRESSOR = ZstdCodec(level=1, checksum=True)
FRAME_CHECKSUM = Crc32cCodec()
"""JPEG and PNG do not get smaller a second time, but a flipped bit must not pass for a picture."""
WRITE_BYTES = 8 << 20
"""How much of a compressed stream is in memory at a time."""

Progress = Callable[[float], None]
"""Told the fraction done, 0 to 1."""


def write_root(root: zarr.Group, spec: RobotSpec, codecs: Mapping[str, str]) -> None:
    """Makes an empty group a dataset."""
    root.create_group("episodes")
    root.attrs.update(
        {
            "format": FORMAT_VERSION,
            "spec": to_strict_json(spec.to_json()),
            "codecs": dict(codecs),
            "next_episode": 0,
        }
    )


def write_episode(root: zarr.Group, episode_id: str, encoded: EncodedEpisode, progress: Progress) -> None:
    """Writes every array of an episode under `episodes/<id>`."""
    episode, streams = encoded.episode, encoded.streams
    columns: dict[str, AnyArray] = {name: getattr(episode, name) for name in TICK_COLUMNS}
    total = sum(map(_size, streams.values())) + sum(array.nbytes for array in columns.values())
    attributes = {
        "uuid": encoded.uuid,
        "digest": digest_of(encoded),
        "header": header_to_json(episode.header),
        "result": result_to_json(episode.result),
        "bytes": total,
    }
    group = root.create_group(f"episodes/{episode_id}", attributes=attributes)
    for name, array in columns.items():
        _write(group, name, array)
    done = 0
    for name, stream in streams.items():
        place = group.create_group(f"streams/{name}")
        _write(place, "stamps_ns", stream.stamps_ns)
        _write(place, "frame_index", episode.frame_index[name])
        if isinstance(stream, Stream):
            _write(place, "values", stream.values)
        else:
            _write_frames(place, stream, _Share(progress, done, total))
        done += _size(stream)
    progress(1.0)


def read_info(group: zarr.Group, episode_id: str) -> EpisodeInfo:
    """What an episode's attributes say."""
    attributes = attributes_of(group)
    return EpisodeInfo(
        id=episode_id,
        header=header_from_json(attributes["header"]),
        result=result_from_json(attributes["result"]),
        bytes=attributes["bytes"],
        uuid=attributes["uuid"],
        digest=attributes.get("digest", ""),
    )


def read_episode(group: zarr.Group, spec: RobotSpec, what: str) -> EncodedEpisode:
    """The streams that `spec` names; bytes of camera frames are fetched when they are looked at.

    Args:
        group: The episode's.
        spec: The dataset's, or some of its streams.
        what: How an error that comes when bytes are fetched begins.
    """
    info = read_info(group, "")
    episode = Episode(
        spec=spec,
        header=info.header,
        result=info.result,
        streams={name: _read_stream(group, name) for name in spec.observations if name not in spec.images},
        frame_index={name: _read(group, f"streams/{name}/frame_index") for name in spec.observations},
        **{name: _read(group, name) for name in TICK_COLUMNS},
    )
    return EncodedEpisode(info.uuid, episode, {name: _read_camera(group, name, what) for name in spec.images})


def attributes_of(group: zarr.Group) -> dict[str, Any]:
    """A group's attributes as a plain dictionary."""
    return dict(group.attrs)


def group_at(group: zarr.Group, path: str) -> zarr.Group:
    """The group under a path.

    Raises:
        KeyError: There is none.
        DatasetError: An array is there.
    """
    found = group[path]
    if not isinstance(found, zarr.Group):
        raise DatasetError(f"'{path}' is not a group: the dataset was written by another program")
    return found


class StoredBytes:
    """Bytes of a stored array, read piece by piece, with errors that a person can act on."""

    def __init__(self, array: zarr.Array[Any], what: str) -> None:
        self._array = array
        self._what = what

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, key: slice, /) -> npt.NDArray[np.uint8]:
        with explained(self._what):
            return np.asarray(self._array[key], dtype=np.uint8)


class _Share:
    """Progress of one stream as its share of the whole episode's, in bytes."""

    def __init__(self, progress: Progress, before: int, total: int) -> None:
        self._progress = progress
        self._before = before
        self._total = max(total, 1)

    def __call__(self, written: int) -> None:
        self._progress((self._before + written) / self._total)


def _size(stream: Stream | CompressedStream) -> int:
    return stream.values.nbytes if isinstance(stream, Stream) else len(stream.data)


def _write(group: zarr.Group, name: str, array: AnyArray) -> None:
    row_bytes = max(1, array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    rows = max(1, min(len(array), CHUNK_BYTES // row_bytes))
    # Without write_empty_chunks a chunk of -0.0 would come back as 0.0.
    group.create_array(
        name,
        data=np.ascontiguousarray(array),
        chunks=(rows, *(max(1, size) for size in array.shape[1:])),
        compressors=NUMBER_COMPRESSOR,
        config={"write_empty_chunks": True},
    )


def _write_frames(place: zarr.Group, stream: CompressedStream, progress: _Share) -> None:
    place.attrs["codec"] = str(Codec.parse(stream.codec))
    _write(place, "offsets", stream.offsets)
    size = len(stream.data)
    # Equal chunks: zarr fills the last one up, and these are not compressed again.
    chunk = -(-size // max(1, -(-size // FRAME_CHUNK_BYTES)))
    array = place.create_array(
        "bytes",
        shape=(size,),
        dtype="uint8",
        chunks=(max(1, chunk),),
        compressors=NUMBER_COMPRESSOR if stream.codec == "raw" else FRAME_CHECKSUM,
        config={"write_empty_chunks": True},
    )
    # Whole chunks at a time, or zarr would read each of them back.
    step = max(1, WRITE_BYTES // max(1, chunk)) * max(1, chunk)
    for start in range(0, size, step):
        stop = min(start + step, size)
        array[start:stop] = stream.data[start:stop]
        progress(stop)


def _read_stream(group: zarr.Group, name: str) -> Stream:
    place = group_at(group, f"streams/{name}")
    return Stream(_read(place, "stamps_ns"), _read(place, "values"))


def _read_camera(group: zarr.Group, name: str, what: str) -> CompressedStream:
    place = group_at(group, f"streams/{name}")
    data = StoredBytes(_array(place, "bytes"), what)
    return CompressedStream(_read(place, "stamps_ns"), _read(place, "offsets"), data, str(place.attrs["codec"]))


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    array = group[path]
    if not isinstance(array, zarr.Array):
        raise DatasetError(f"'{path}' is not an array: the dataset was written by another program")
    return array


def _read(group: zarr.Group, path: str) -> Any:
    return np.asarray(_array(group, path)[...])
