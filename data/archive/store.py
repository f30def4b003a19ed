"""A dataset: episodes as zarr v3 groups in an Icechunk repository, one transaction each.

An episode is either wholly there or not there; every change makes a snapshot that can be opened again until it is
garbage-collected on request. `schema.py` describes the stored layout. Reading needs no lock and never sees half of
a transaction.

A snapshot lists every array there is (about 0.7 kB per episode), so history grows with the square of the number of
transactions: 500 episodes one by one keep 86 MB of it, 5 transactions of 100 keep 1 MB. `collect_garbage` removes it,
and whoever adds thousands at once gives `append_encoded` many of them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import icechunk
import zarr

from data.archive.errors import explained
from data.archive.layout import (
    Progress,
    attributes_of,
    group_at,
    read_episode,
    read_info,
    write_episode,
)
from data.archive.location import Location
from data.archive.lock import WriterLock
from data.archive.repository import BRANCH, exists, snapshot_named, write_root_if_absent
from data.archive.schema import (
    FORMAT_VERSION,
    DatasetError,
    EncodedEpisode,
    EpisodeInfo,
    SnapshotInfo,
    decode_episode,
    encode_episode,
    from_strict_json,
    full_codecs,
    problems_of,
    spec_differences,
)
from robot_rl.core.episode import Episode
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import RobotSpec

CONFLICT_TRIES = 5


class DatasetMissing(DatasetError):
    """There is no dataset at the address."""


@dataclass(frozen=True)
class GarbageReport:
    """What garbage collection removed."""

    snapshots: int
    chunks: int
    bytes: int


class DatasetStore:
    """Episodes of one robot. Made by `create` and `open`; a context manager.

    Attributes:
        url: Its address.
        spec: The robot all its episodes were recorded with.
        codecs: Camera stream to codec name, for episodes that this object compresses.
        snapshot: Id of the state that this object shows; moves on with its own writes only.
    """

    def __init__(self, location: Location, repository: icechunk.Repository, snapshot: str, lock: WriterLock | None):
        self.url = location.url
        self.snapshot = snapshot
        self._location = location
        self._repository = repository
        self._lock = lock
        self._root = self._open_root()
        attributes = attributes_of(self._root)
        if attributes.get("format") != FORMAT_VERSION:
            raise DatasetError(
                f"dataset {self.url} has format {attributes.get('format')!r}, this version of robot-rl reads "
                f"{FORMAT_VERSION}; it was written by another version or another program"
            )
        self.spec = RobotSpec.from_json(from_strict_json(attributes["spec"]))
        self.codecs: Mapping[str, str] = attributes["codecs"]

    @classmethod
    def create(
        cls, url: str, spec: RobotSpec, codecs: Mapping[str, str] | None = None, *, lock: WriterLock | None = None
    ) -> Self:
        """Makes a dataset, or opens the one that is there if it is for the same robot; writable either way.

        Args:
            url: A directory or `s3://bucket/prefix`.
            spec: The robot whose episodes it will hold.
            codecs: Camera stream to `jpeg:<quality>`, `png` or `raw`; where none is named, the dataset's own if it is
                there, else `jpeg:90`.
            lock: The writer's lock if the caller has it already.

        Raises:
            SpecMismatch: A dataset of another robot is there; names every differing field.
            DatasetError: The place cannot be written, or another process writes to it.
        """
        wanted = full_codecs(spec, codecs)
        _check_stream_names(spec)
        location = Location.parse(url)
        lock = lock or WriterLock.acquire(location.lock_path)
        try:
            with explained(f"cannot make dataset {url}"):
                repository = icechunk.Repository.open_or_create(location.storage())
                write_root_if_absent(repository, spec, wanted)
                snapshot = repository.lookup_branch(BRANCH)
            store = cls(location, repository, snapshot, lock)
            store.require_spec(spec)
            store.codecs = {**store.codecs, **{name: wanted[name] for name in codecs or {}}}
            return store
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(
        cls,
        url: str,
        *,
        snapshot: str | None = None,
        writable: bool = False,
        wait_s: float = 0.0,
        lock: WriterLock | None = None,
    ) -> Self:
        """Opens an existing dataset.

        Args:
            url: A directory or `s3://bucket/prefix`.
            snapshot: A snapshot id or tag to go back to; None is the newest state.
            writable: Takes the writer's lock until `close`.
            wait_s: How long to wait for another writer [s].
            lock: The writer's lock if the caller has it already.

        Raises:
            DatasetMissing: Nothing is there; names the command that makes it.
            DatasetError: It is damaged, locked by another writer, or has no such snapshot.
        """
        if writable and snapshot is not None:
            raise DatasetError(f"dataset {url}: snapshot {snapshot} is history; open the newest state to write")
        location = Location.parse(url)
        with explained(f"cannot open dataset {url}"):
            if not exists(location):
                raise DatasetMissing(f"no dataset at {url}; make one with: robot-rl collect dataset={url}")
            repository = icechunk.Repository.open(location.storage())
        if writable and lock is None:
            lock = WriterLock.acquire(location.lock_path, wait_s)
        try:
            with explained(f"cannot open dataset {url}"):
                resolved = snapshot_named(repository, url, snapshot)
            return cls(location, repository, resolved, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Gives the writer's lock back; safe to call more than once."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def episode_ids(self) -> list[str]:
        """Ids of all episodes, oldest first. An id is stable for ever and a deleted one never comes back."""
        with explained(f"cannot list dataset {self.url}"):
            return sorted(group_at(self._root, "episodes").keys(), key=int)

    @property
    def newest_id(self) -> str:
        """Id of the episode appended last, even if it was deleted since; `-00001` if there was none."""
        return f"{int(attributes_of(self._root)['next_episode']) - 1:06d}"

    def info(self, episode_id: str) -> EpisodeInfo:
        """What is known of an episode without reading its frames."""
        with explained(f"cannot read episode {episode_id} of dataset {self.url}"):
            return read_info(self._episode(episode_id), episode_id)

    def read(self, episode_id: str, streams: Sequence[str] | None = None) -> Episode:
        """An episode, decoded.

        Args:
            episode_id: One of `episode_ids`.
            streams: Only these, which spares reading and decoding the others; None for all.

        Raises:
            DatasetError: No such episode, or its files are damaged.
            SpecMismatch: A stream that the robot does not have.
        """
        encoded = self.read_encoded(episode_id, streams)
        with explained(f"cannot decode episode {episode_id} of dataset {self.url}"):
            return decode_episode(encoded, streams)

    def read_encoded(self, episode_id: str, streams: Sequence[str] | None = None) -> EncodedEpisode:
        """An episode as it is stored; the bytes of camera frames are fetched only when they are looked at."""
        spec = self.spec if streams is None else self.spec.select(streams)
        what = f"cannot read episode {episode_id} of dataset {self.url}"
        with explained(what):
            return read_episode(self._episode(episode_id), spec, what)

    def append(self, episode: Episode) -> str:
        """Compresses an episode and stores it in one transaction.

        Returns:
            The new snapshot's id; the episode is the last of `episode_ids`.

        Raises:
            SpecMismatch: It is another robot's.
            DatasetError: It contradicts itself, or cannot be written; then nothing has changed.
        """
        self.require_spec(episode.spec)
        return self.append_encoded(encode_episode(episode, self.codecs, uuid.uuid4().hex))

    def append_encoded(self, *episodes: EncodedEpisode, progress: Progress | None = None) -> str:
        """Stores compressed episodes as they are, all in one transaction. Returns and raises as `append`."""
        for episode in episodes:
            self.require_spec(episode.episode.spec)
            problems = problems_of(episode)
            if problems:
                raise DatasetError(f"episode {episode.uuid} contradicts itself:\n  " + "\n  ".join(problems))

        def write(root: zarr.Group) -> str:
            first = int(str(root.attrs["next_episode"]))
            root.attrs["next_episode"] = first + len(episodes)
            for number, episode in enumerate(episodes, start=first):
                write_episode(root, f"{number:06d}", episode, progress or (lambda fraction: None))
            return f"{'episode' if len(episodes) == 1 else f'{len(episodes)} episodes from'} {first:06d}"

        return self._transact(f"cannot add {len(episodes)} episode(s) to dataset {self.url}", write)

    def id_of(self, episode_uuid: str) -> str | None:
        """The id under which a recording is stored, newest looked at first; None if it is not."""
        for episode_id in reversed(self.episode_ids()):
            if self.info(episode_id).uuid == episode_uuid:
                return episode_id
        return None

    def delete(self, episode_ids: Sequence[str]) -> str:
        """Removes episodes from the newest state; older snapshots keep them until they are garbage-collected."""
        for episode_id in episode_ids:
            self._episode(episode_id)

        def write(root: zarr.Group) -> str:
            for episode_id in episode_ids:
                del group_at(root, "episodes")[episode_id]
            return f"delete {', '.join(episode_ids)}"

        return self._transact(f"cannot delete from dataset {self.url}", write) if episode_ids else self.snapshot

    def tag(self, name: str) -> None:
        """Names the snapshot that this object shows, for ever; garbage collection keeps what is tagged.

        Raises:
            DatasetError: The name is taken, or was once.
        """
        self._require_writable()
        if name in self.tags():
            raise DatasetError(f"dataset {self.url} has a tag '{name}' already: choose another name")
        with explained(f"cannot tag dataset {self.url} as '{name}'"):
            self._repository.create_tag(name, self.snapshot)

    def tags(self) -> dict[str, str]:
        """Tag to snapshot id, by name."""
        with explained(f"cannot list the tags of dataset {self.url}"):
            return {name: self._repository.lookup_tag(name) for name in sorted(self._repository.list_tags())}

    def history(self) -> list[SnapshotInfo]:
        """This snapshot and those before it, newest first."""
        named: dict[str, list[str]] = {}
        for name, snapshot in self.tags().items():
            named.setdefault(snapshot, []).append(name)
        with explained(f"cannot read the history of dataset {self.url}"):
            return [
                SnapshotInfo(each.id, each.written_at.isoformat(), each.message, tuple(named.get(each.id, ())))
                for each in self._repository.ancestry(snapshot_id=self.snapshot)
            ]

    def collect_garbage(self, older_than: datetime) -> GarbageReport:
        """Forgets snapshots older than a moment and removes what only they held.

        The newest state and tagged snapshots stay. A checkpoint whose snapshot goes can no longer name its data: tag
        what matters first.
        """
        self._require_writable()
        with explained(f"cannot collect garbage in dataset {self.url}"):
            moment = older_than.astimezone()
            expired = self._repository.expire_snapshots(moment)
            removed = self._repository.garbage_collect(moment)
        return GarbageReport(len(expired), removed.chunks_deleted, removed.bytes_deleted)

    def require_spec(self, offered: RobotSpec) -> None:
        """Refuses a robot other than this dataset's.

        Raises:
            SpecMismatch: Names every differing field.
        """
        differences = spec_differences(self.spec, offered)
        if differences:
            raise SpecMismatch(
                f"dataset {self.url} holds another robot than '{offered.name}':\n  "
                + "\n  ".join(differences)
                + "\nrecord into a new dataset with dataset=<directory>"
            )

    def sync(self) -> None:
        """Returns once everything written so far survives a power loss."""
        with explained(f"cannot sync dataset {self.url}"):
            self._location.sync()

    def _require_writable(self) -> None:
        if self._lock is None:
            raise DatasetError(f"dataset {self.url} is open for reading: open it with writable=True to change it")

    def _open_root(self) -> zarr.Group:
        with explained(f"cannot open dataset {self.url} at snapshot {self.snapshot}"):
            session = self._repository.readonly_session(snapshot_id=self.snapshot)
            return zarr.open_group(session.store, mode="r")

    def _transact(self, what: str, write: Callable[[zarr.Group], str]) -> str:
        """Runs `write` on the newest state and commits what it did under the message it returns."""
        self._require_writable()
        for attempt in range(CONFLICT_TRIES):
            with explained(what):
                session = self._repository.writable_session(BRANCH)
                message = write(zarr.open_group(session.store, mode="r+"))
                try:
                    self.snapshot = session.commit(message)
                    break
                except icechunk.ConflictError:
                    # Only another machine on the same object store can get here; locally the lock is ours.
                    if attempt == CONFLICT_TRIES - 1:
                        raise
        self._root = self._open_root()
        return self.snapshot

    def _episode(self, episode_id: str) -> zarr.Group:
        try:
            return group_at(self._root, f"episodes/{episode_id}")
        except KeyError:
            ids = self.episode_ids()
            held = f"it has {len(ids)}, {ids[0]} to {ids[-1]}" if ids else "it is empty"
            raise DatasetError(f"no episode '{episode_id}' in dataset {self.url}: {held}") from None


def _check_stream_names(spec: RobotSpec) -> None:
    for name in spec.observations:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise DatasetError(
                f"stream name '{name}': use letters, digits, '_', '-' and '.', it becomes a folder's name"
            )
