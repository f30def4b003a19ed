"""A memory-mapped copy of the episodes a training run reads, made once and read thousands of times.

The archive compresses and keeps everything; random windows out of it are slow. The cache holds one plain `.npy` per
stream at full speed: images as one array of distinct frames plus the frame each tick saw (a 30 Hz camera at 100 Hz
ticks is held once, not three times), everything else one row per tick.

A cache lives in a folder named by a hash of all that decides its content (snapshot, spec, streams, image sizes,
episodes, action source), so it is never stale. It is built in a temporary folder and renamed when whole. It can be
deleted at any time (`rm -r`); the next run builds it again. Nothing deletes it automatically.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt

from data.training.npy_appender import NpyAppender
from robot_rl.core.episode import Episode, EpisodeResult, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import atomic_directory
from robot_rl.core.specs import AnyArray, RobotSpec

FORMAT = 1
CONTENT_FILE = "content.json"
ENDS_FILE = "episode_ends.npy"
ACTION_FILE = "action.npy"
ActionSource = Literal["applied", "requested"]
Progress = Callable[[int, int], None]
"""Called with episodes cached so far and episodes in all."""


class EpisodeInfo(Protocol):
    """What is known of a stored episode without reading its frames."""

    @property
    def result(self) -> EpisodeResult:
        """How it ended."""


class EpisodeSource(Protocol):
    """A dataset at one snapshot, as `DatasetStore` offers it."""

    @property
    def spec(self) -> RobotSpec:
        """The robot's."""

    @property
    def snapshot(self) -> str:
        """Identifies the content for ever."""

    def episode_ids(self) -> list[str]:
        """Of every episode, ascending."""

    def info(self, episode_id: str) -> EpisodeInfo:
        """What is known of one."""

    def read(self, episode_id: str, streams: Sequence[str] | None = None) -> Episode:
        """Decoded frames of some streams."""


@dataclass(frozen=True)
class Selection:
    """Episodes to learn from, and how many of each outcome were left out."""

    ids: tuple[str, ...]
    left_out: Mapping[Outcome, int]

    def describe(self) -> str:
        """For the screen: `96 of 120 episodes (left out: 20 failure, 4 aborted)`."""
        total = len(self.ids) + sum(self.left_out.values())
        gone = ", ".join(f"{count} {outcome}" for outcome, count in self.left_out.items())
        return f"{len(self.ids)} of {total} episodes" + (f" (left out: {gone})" if gone else "")


def select_episodes(source: EpisodeSource, outcomes: Sequence[Outcome]) -> Selection:
    """Episodes with one of the outcomes and at least one tick.

    Raises:
        RobotRLError: There are none; says what there is instead.
    """
    results = {episode_id: source.info(episode_id).result for episode_id in source.episode_ids()}
    ids = tuple(key for key, result in results.items() if result.outcome in outcomes and result.ticks > 0)
    left_out = Counter(result.outcome for key, result in results.items() if key not in set(ids))
    if not ids:
        has = ", ".join(f"{count} {outcome}" for outcome, count in left_out.items()) or "no episodes"
        raise RobotRLError(
            f"nothing to learn from: wanted episodes with outcome {' or '.join(outcomes)}, the dataset has {has}. "
            "Collect more, or choose others with data.outcomes=[success,failure]"
        )
    return Selection(ids, dict(left_out))


@dataclass(frozen=True)
class CacheContent:
    """All that decides what a cache holds.

    Attributes:
        snapshot: Of the dataset.
        spec: The robot's, of which `streams` are read.
        streams: Names, in any order.
        episodes: Ids, in the order of the cache.
        action_source: Whether `action` is what was executed or what was asked for.
        image_sizes: Camera stream to (height, width); those not named keep the robot's size.
    """

    snapshot: str
    spec: RobotSpec
    streams: tuple[str, ...]
    episodes: tuple[str, ...]
    action_source: ActionSource = "applied"
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """A dictionary that JSON can hold, for the hash and for people."""
        return {
            "format": FORMAT,
            "snapshot": self.snapshot,
            "spec": self.spec.select(self.streams).to_json(),
            "image_sizes": {name: list(self.shape(name)[:2]) for name in self.streams if self.is_image(name)},
            "action_source": self.action_source,
            "episodes": list(self.episodes),
        }

    def key(self) -> str:
        """Name of its folder: a hash of the document."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:20]

    def shape(self, stream: str) -> tuple[int, ...]:
        """Shape of one row of a stream in the cache."""
        shape = self.spec.observations[stream].shape
        size = self.image_sizes.get(stream)
        return (*size, *shape[2:]) if size is not None and self.is_image(stream) else shape

    def is_image(self, stream: str) -> bool:
        """Whether a stream is a camera's."""
        return self.spec.observations[stream].is_image


class WindowCache:
    """Episodes end to end, memory-mapped. Threads may read at the same time.

    Args:
        directory: As `build` made it.

    Raises:
        RobotRLError: A file in it is missing or cut short.

    Attributes:
        streams: Names.
        episode_ends: Row after the last one of each episode. Shape (E,).
        directory: Where it lies.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            spec = RobotSpec.from_json(json.loads((directory / CONTENT_FILE).read_text())["spec"])
            self.streams = tuple(spec.observations)
            self._point_clouds = frozenset(spec.point_clouds)
            self.episode_ends = np.load(directory / ENDS_FILE)
            self._frames = {name: np.load(directory / _frames_file(name)) for name in spec.images}
            self._actions = _mapped(directory / ACTION_FILE)
            self._values = {name: _mapped(directory / _values_file(name)) for name in self.streams}
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise RobotRLError(
                f"window cache {directory} is damaged ({error}): delete it, the next run builds it again"
            ) from error

    @classmethod
    def build(
        cls, source: EpisodeSource, content: CacheContent, root: Path, progress: Progress = lambda done, total: None
    ) -> WindowCache:
        """Opens the cache of this content below `root`, making it first if it is not there.

        Raises:
            RobotRLError: No room, no permission, or an episode with NaN.
        """
        directory = root / content.key()
        if not directory.exists():
            try:
                _build(source, content, directory, progress)
            except OSError as error:
                raise RobotRLError(
                    f"cannot build the window cache in {root}: {error.strerror or error}. Free some room there "
                    "(caches may be deleted at any time) or choose another folder with data.cache=..."
                ) from error
        return cls(directory)

    def __len__(self) -> int:
        """Number of ticks."""
        return len(self._actions)

    def read(self, stream: str, rows: npt.NDArray[np.int64]) -> AnyArray:
        """A stream at some ticks. Shape (*rows.shape, *shape)."""
        frames = self._frames.get(stream)
        values: AnyArray = np.take(self._values[stream], rows if frames is None else frames[rows], axis=0)
        return values

    def read_actions(self, rows: npt.NDArray[np.int64]) -> AnyArray:
        """Actions at some ticks. Shape (*rows.shape, A)."""
        actions: AnyArray = np.take(self._actions, rows, axis=0)
        return actions

    def is_image(self, stream: str) -> bool:
        """Whether a stream is a camera's."""
        return stream in self._frames

    def is_point_cloud(self, stream: str) -> bool:
        """Whether a stream is a point cloud's."""
        return stream in self._point_clouds

    def episode_rows(self, episodes: Sequence[int]) -> npt.NDArray[np.int64]:
        """All rows of some episodes, in order."""
        starts = np.concatenate([[0], self.episode_ends[:-1]])
        spans = [np.arange(starts[each], self.episode_ends[each]) for each in episodes]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)

    def size_bytes(self) -> int:
        """How much of the disk it takes [bytes]."""
        return sum(path.stat().st_size for path in self.directory.iterdir())


def _mapped(path: Path) -> AnyArray:
    """A read-only view of a `.npy` file: not the memmap itself, whose hooks cost more than a small read."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _build(source: EpisodeSource, content: CacheContent, directory: Path, progress: Progress) -> None:
    with atomic_directory(directory) as partial, ExitStack() as files:
        writer = _CacheWriter(content, partial, files)
        for count, episode_id in enumerate(content.episodes, start=1):
            writer.append(episode_id, source)
            progress(count, len(content.episodes))
        writer.finish()


class _CacheWriter:
    """Appends one episode after another to the files of a cache."""

    def __init__(self, content: CacheContent, directory: Path, files: ExitStack) -> None:
        self._content = content
        self._directory = directory
        self._images = [name for name in content.streams if content.is_image(name)]
        self._plain = [name for name in content.streams if not content.is_image(name)]

        def array(file_name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> NpyAppender:
            return files.enter_context(NpyAppender(directory / file_name, shape, dtype))

        self._actions = array(ACTION_FILE, content.spec.action.shape, np.float32)
        self._values = {
            name: array(_values_file(name), content.shape(name), np.uint8 if name in self._images else np.float32)
            for name in content.streams
        }
        self._frames = {name: array(_frames_file(name), (), np.int64) for name in self._images}
        self._ends: list[int] = []

    def append(self, episode_id: str, source: EpisodeSource) -> None:
        """Copies one episode; cameras one at a time, since a minute of one can fill a gigabyte."""
        episode = source.read(episode_id, self._plain)
        actions = episode.applied if self._content.action_source == "applied" else episode.requested
        self._actions.append(_finite(actions, "action", episode_id))
        for name in self._plain:
            self._values[name].append(_finite(episode.per_tick(name), name, episode_id))
        for name in self._images:
            self._append_frames(name, source.read(episode_id, [name]))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(episode))

    def finish(self) -> None:
        """Writes what is known only now."""
        np.save(self._directory / ENDS_FILE, np.array(self._ends, dtype=np.int64))
        (self._directory / CONTENT_FILE).write_text(json.dumps(self._content.document(), indent=1))

    def _append_frames(self, name: str, episode: Episode) -> None:
        """Only frames that a tick saw: a fast camera may have many that none did."""
        seen, index = np.unique(episode.frame_index[name], return_inverse=True)
        height, width = self._content.shape(name)[:2]
        first = self._values[name].length
        for frame in episode.streams[name].values[seen]:
            self._values[name].append(shrink(frame, height, width)[None])
        self._frames[name].append(first + index.astype(np.int64))


def shrink(frame: AnyArray, height: int, width: int) -> AnyArray:
    """A frame at another size, each pixel the mean of the area it covers, rounded to uint8.

    This is the arithmetic that a policy's graph applies to a camera's own frames, so a policy trained on shrunken
    frames sees the same pixels when it runs, to within the rounding (half a grey level).

    Args:
        frame: uint8. Shape (height, width, 3).
        height: Afterwards, no more than now [px].
        width: Afterwards, no more than now [px].
    """
    if frame.shape[0] < height or frame.shape[1] < width:
        # OpenCV enlarges by another rule than it shrinks, and the policy by a third.
        raise RobotRLError(f"a frame of {frame.shape[:2]} can only be shrunk, not resized to {(height, width)}")
    if frame.shape[:2] == (height, width):
        return frame
    shrunken: AnyArray = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return shrunken


def _values_file(stream: str) -> str:
    return f"stream.{quote(stream, safe='')}.npy"


def _frames_file(stream: str) -> str:
    return f"frame_index.{quote(stream, safe='')}.npy"


def _finite(values: AnyArray, name: str, episode_id: str) -> AnyArray:
    if not np.isfinite(values).all():
        raise RobotRLError(
            f"episode {episode_id}: {name} holds NaN or infinity. See what else is wrong with `robot-rl data verify`, "
            f"then delete the episode with `robot-rl data delete`"
        )
    return values
