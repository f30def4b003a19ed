"""Reads and writes the zarr v2 layout of the Diffusion Policy project (Chi et al., 2023).

The layout is `data/<name>`, every episode end to end along the first axis, and `meta/episode_ends`. It has no clock,
no outcome, no reward, no source and one action: import fills them as the functions below say, export leaves them
behind. Image arrays are often whole numbers stored as float32; they become uint8 and are written back as they were.

Legend: `M` rows of all episodes, `T` ticks in an episode, `A` action dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import ZipStore

from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Source, Stream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import atomic_directory
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray, ArraySpec, RobotSpec

UNKNOWN_SEED = -1
COMPRESSOR: Mapping[str, str | int] = {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2, "blocksize": 0}
"""What that project writes; shuffle 2 is by bit."""
ORIGIN = "diffusion-policy zarr; no clock: stamps are row / control_hz"


class ConversionError(RobotRLError):
    """A foreign dataset that cannot be read or written as asked."""


class StoredArray(NamedTuple):
    """Where a stream lives in the foreign layout: the array's name under `data/` and its dtype."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Layout:
    """A robot's spec and the array of each of its streams."""

    spec: RobotSpec
    arrays: Mapping[str, StoredArray]


@dataclass(frozen=True)
class Facts:
    """What the layout does not say about its episodes and the importer has to."""

    task: str
    operator: str = "human"
    outcome: Outcome = Outcome.SUCCESS


PUSHT = Layout(
    RobotSpec(
        name="pusht",
        observations={
            "state": ArraySpec(
                (5,), "float32", "px,px,px,px,rad", names=("pusher_x", "pusher_y", "block_x", "block_y", "block_angle")
            ),
            "keypoint": ArraySpec((9, 2), "float32", "px"),
            "n_contacts": ArraySpec((1,), "float32", "1", low=0.0),
            "image": ArraySpec((96, 96, 3), "uint8", "rgb"),
        },
        action=ArraySpec((2,), "float32", "px", low=0.0, high=512.0),
        action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
        control_hz=10.0,
    ),
    {
        "state": StoredArray("state", "float32"),
        "keypoint": StoredArray("keypoint", "float32"),
        "n_contacts": StoredArray("n_contacts", "float32"),
        "image": StoredArray("img", "float32"),
    },
)
"""The published Push-T demonstrations, and the simulated robot of the same name."""


@dataclass(frozen=True)
class Archive:
    """An opened dataset: array name to array (M, ...), and where each episode ends, ascending. A context manager."""

    path: Path
    arrays: Mapping[str, zarr.Array[Any]]
    episode_ends: npt.NDArray[np.int64]
    zip_store: ZipStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.zip_store is not None:
            self.zip_store.close()

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.episode_ends)

    def rows(self, episode: int) -> slice:
        """The rows of an episode in every array."""
        start = 0 if episode == 0 else int(self.episode_ends[episode - 1])
        return slice(start, int(self.episode_ends[episode]))

    def read(self, name: str, rows: slice) -> AnyArray:
        """Some rows of an array.

        Raises:
            ConversionError: A chunk cannot be decoded.
        """
        try:
            return np.asarray(self.arrays[name][rows])
        except (OSError, ValueError, RuntimeError) as error:
            raise ConversionError(
                f"{self.path}: rows {rows.start}-{rows.stop - 1} of data/{name} cannot be decoded ({error}); "
                "fetch the file again, or leave the array out with --streams"
            ) from error


def open_archive(path: Path) -> Archive:
    """Opens a dataset in the Diffusion Policy layout, a directory or a `.zip` of one.

    Raises:
        ConversionError: Missing, not in that layout, or contradicting itself.
    """
    if not path.exists():
        raise ConversionError(f"{path} does not exist; wanted a zarr directory or .zip in the Diffusion Policy layout")
    zip_store = ZipStore(path, mode="r") if path.is_file() and path.suffix == ".zip" else None
    if zip_store is None and not path.is_dir():
        raise ConversionError(f"{path} is a file that is no .zip; wanted a zarr directory or a .zip of one")
    try:
        group = zarr.open_group(path if zip_store is None else zip_store, mode="r")
        arrays = {name: array for name, array in _group(group, "data", path).arrays()}
        episode_ends = _array(_group(group, "meta", path), "episode_ends", path)
    except (OSError, ValueError, KeyError) as error:
        raise ConversionError(
            f"{path} cannot be opened as zarr ({error}); wanted data/<name> and meta/episode_ends"
        ) from error
    archive = Archive(path, arrays, episode_ends, zip_store)
    _check(archive)
    return archive


def _group(parent: zarr.Group, name: str, path: Path) -> zarr.Group:
    child = parent.get(name)
    if not isinstance(child, zarr.Group):
        raise ConversionError(f"{path} has no group '{name}'; wanted data/<name> and meta/episode_ends")
    return child


def _array(parent: zarr.Group, name: str, path: Path) -> npt.NDArray[np.int64]:
    child = parent.get(name)
    if not isinstance(child, zarr.Array):
        raise ConversionError(f"{path} has no array '{parent.name}/{name}'; wanted data/<name> and meta/episode_ends")
    return np.asarray(child[:]).astype(np.int64)


def _check(archive: Archive) -> None:
    ends = archive.episode_ends
    if ends.ndim != 1 or len(ends) == 0 or ends[0] <= 0 or (np.diff(ends) <= 0).any():
        raise ConversionError(f"{archive.path}: meta/episode_ends is {ends}, wanted ascending positive row counts")
    if "action" not in archive.arrays:
        raise ConversionError(f"{archive.path} has no data/action; it has {', '.join(sorted(archive.arrays))}")
    for name, array in archive.arrays.items():
        if array.shape[0] != ends[-1]:
            raise ConversionError(
                f"{archive.path}: data/{name} has {array.shape[0]} rows, but the last episode ends at {ends[-1]}"
            )


def is_pusht(archive: Archive) -> bool:
    """Whether an archive holds what the published Push-T demonstrations hold: the same arrays, shapes and dtypes."""
    spec = PUSHT.spec
    wanted = {stored.name: (spec.observations[name].shape, stored.dtype) for name, stored in PUSHT.arrays.items()}
    wanted["action"] = (spec.action.shape, spec.action.dtype)
    return wanted == {name: (array.shape[1:], array.dtype.name) for name, array in archive.arrays.items()}


def derive_layout(
    archive: Archive, *, robot: str, control_hz: float, kind: ActionKind, streams: tuple[str, ...] = ()
) -> Layout:
    """A spec read off the shapes of a dataset: units unknown (`1`), no bounds, images where an array looks like one.

    Args:
        archive: The opened dataset.
        robot: Name of the embodiment.
        control_hz: Rows per second.
        kind: What every action dimension means.
        streams: The arrays to keep; all when empty.

    Raises:
        ConversionError: No such array, or an action that is not (M, A).
    """
    offered = sorted(set(archive.arrays) - {"action"})
    for name in streams:
        if name not in offered:
            raise ConversionError(f"{archive.path} has no data/{name}; it has {', '.join(offered)}")
    action = archive.arrays["action"]
    if action.ndim != 2:
        raise ConversionError(f"{archive.path}: data/action has shape {action.shape}, wanted (rows, dimensions)")
    kept = {name: archive.arrays[name] for name in streams or offered}
    spec = RobotSpec(
        name=robot,
        observations={
            name: ArraySpec(array.shape[1:], "uint8", "rgb")
            if _looks_like_images(array)
            else ArraySpec(array.shape[1:], array.dtype.name, "1")
            for name, array in kept.items()
        },
        action=ArraySpec(action.shape[1:], action.dtype.name, "1"),
        action_kinds=(kind,) * action.shape[1],
        control_hz=control_hz,
    )
    return Layout(spec, {name: StoredArray(name, array.dtype.name) for name, array in kept.items()})


def _looks_like_images(array: zarr.Array[Any]) -> bool:
    return array.ndim == 4 and array.shape[-1] == 3 and (array.dtype == np.uint8 or array.dtype.kind == "f")


def narrow(layout: Layout, streams: Sequence[str]) -> Layout:
    """The same layout with only some of its streams; all when none are named.

    Raises:
        SpecMismatch: A stream that it does not have.
    """
    if not streams:
        return layout
    return Layout(layout.spec.select(streams), {name: layout.arrays[name] for name in streams})


def layout_for(spec: RobotSpec, image_dtype: str | None = None) -> Layout:
    """The arrays that a robot's streams are exported to.

    Args:
        spec: Of the dataset, narrowed to the streams to export.
        image_dtype: Of image arrays; None is what the known dataset of this robot has, else uint8.

    Raises:
        ConversionError: A stream named as the layout names the action.
    """
    if "action" in spec.observations:
        raise ConversionError("a stream is called 'action', which the layout keeps for the action; leave it out")
    known = PUSHT.arrays if spec.name == PUSHT.spec.name else {}
    arrays = {}
    for name, stream in spec.observations.items():
        stored = known.get(name, StoredArray(name, stream.dtype))
        arrays[name] = stored._replace(dtype=image_dtype) if stream.is_image and image_dtype else stored
    return Layout(spec, arrays)


def episodes_of(archive: Archive, layout: Layout, facts: Facts) -> Iterator[Episode]:
    """Every episode of a dataset, oldest first.

    Stamps are row / control_hz from zero and every observation is as old as its tick; requested and applied are both
    the one action; the reward is 0 and the seed unknown.

    Raises:
        ConversionError: Image values that uint8 cannot hold, or a damaged chunk.
    """
    for number in range(len(archive)):
        rows = archive.rows(number)
        ticks = rows.stop - rows.start
        stamps_ns = np.rint(np.arange(ticks) * (NS_PER_S / layout.spec.control_hz)).astype(np.int64)
        action = archive.read("action", rows)
        yield Episode(
            spec=layout.spec,
            header=EpisodeHeader(facts.task, facts.operator, "", UNKNOWN_SEED, "unknown", ORIGIN),
            result=_result(facts.outcome, ticks, f"row {rows.start} to {rows.stop - 1} of {archive.path.name}"),
            stamps_ns=stamps_ns,
            streams={name: Stream(stamps_ns, _frames(archive, layout, name, rows)) for name in layout.arrays},
            frame_index={name: np.arange(ticks, dtype=np.int64) for name in layout.arrays},
            requested=action,
            applied=action.copy(),
            source=np.full(ticks, Source.OPERATOR, dtype=np.uint8),
            reward=np.zeros(ticks, dtype=np.float32),
            filter_reasons=np.zeros(ticks, dtype=np.uint32),
        )


def _result(outcome: Outcome, ticks: int, reason: str) -> EpisodeResult:
    aborted = outcome is Outcome.ABORTED
    return EpisodeResult(outcome, terminated=not aborted, truncated=aborted, reason=reason, ticks=ticks)


def _frames(archive: Archive, layout: Layout, stream: str, rows: slice) -> AnyArray:
    name = layout.arrays[stream].name
    values = archive.read(name, rows)
    wanted = np.dtype(layout.spec.observations[stream].dtype)
    if values.dtype == wanted:
        return values
    with np.errstate(invalid="ignore"):
        narrowed = values.astype(wanted)
    # Compared as bytes: a fraction, a value beyond 255, NaN and a negative zero would all come back changed.
    if narrowed.astype(values.dtype).tobytes() != values.tobytes():
        raise ConversionError(
            f"{archive.path}: data/{name} holds values in {values.min()} to {values.max()} near row {rows.start} that "
            f"{wanted} cannot hold; wanted whole numbers 0-255. Leave the array out with --streams"
        )
    return narrowed


@dataclass
class _Rows:
    """Appends rows to a zarr v2 array in whole chunks, as compressing a chunk twice costs the most here."""

    group: zarr.Group
    name: str
    chunk_rows: int
    pending: list[AnyArray] = field(default_factory=list)
    array: zarr.Array[Any] | None = None

    def append(self, values: AnyArray) -> None:
        if self.array is None:
            self.array = self.group.create_array(
                self.name,
                shape=(0, *values.shape[1:]),
                chunks=(self.chunk_rows, *values.shape[1:]),
                dtype=values.dtype,
                compressors=COMPRESSOR,
                fill_value=0,
            )
        self.pending.append(values)
        waiting = sum(map(len, self.pending))
        self._write(waiting - waiting % self.chunk_rows)

    def close(self) -> None:
        self._write(sum(map(len, self.pending)))

    def _write(self, count: int) -> None:
        if count == 0 or self.array is None:
            return
        rows = np.concatenate(self.pending)
        start = self.array.shape[0]
        self.array.resize((start + count, *self.array.shape[1:]))
        self.array[start : start + count] = rows[:count]
        self.pending = [rows[count:]] if count < len(rows) else []


def write_archive(
    target: Path, layout: Layout, episodes: Iterable[Episode], *, action: Literal["applied", "requested"] = "applied"
) -> int:
    """Writes episodes in the Diffusion Policy layout, compressed and chunked as that project does.

    A chunk is as long as the first episode. Nothing is left at `target` unless everything was written.

    Args:
        target: Directory to make.
        layout: Of the same streams as the episodes.
        episodes: In order; a generator keeps one in memory.
        action: Which of the two recorded actions becomes the one of this layout.

    Returns:
        Rows written.

    Raises:
        ConversionError: The target exists, or there are no episodes.
    """
    if target.exists():
        raise ConversionError(f"{target} exists; remove it or export to another directory")
    with atomic_directory(target) as unfinished:
        return _write_all(unfinished, layout, episodes, action)


def _write_all(directory: Path, layout: Layout, episodes: Iterable[Episode], action: str) -> int:
    group = zarr.open_group(directory, mode="w", zarr_format=2)
    data, meta = group.create_group("data"), group.create_group("meta")
    writers: dict[str, _Rows] = {}
    ends: list[int] = []
    for episode in episodes:
        if not writers:
            names = [*(stored.name for stored in layout.arrays.values()), "action"]
            writers = {name: _Rows(data, name, chunk_rows=len(episode)) for name in names}
        for stream, stored in layout.arrays.items():
            writers[stored.name].append(episode.per_tick(stream).astype(stored.dtype))
        writers["action"].append(episode.applied if action == "applied" else episode.requested)
        ends.append(len(episode) + (ends[-1] if ends else 0))
    if not ends:
        raise ConversionError("no episode to export; `robot-rl data ls` shows what a dataset holds")
    for writer in writers.values():
        writer.close()
    last = _Rows(meta, "episode_ends", chunk_rows=len(ends))
    last.append(np.array(ends, dtype=np.int64))
    return ends[-1]
