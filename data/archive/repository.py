"""The Icechunk repository under a dataset: whether it is there, its first snapshot, and which one a name means."""

from __future__ import annotations

import atexit
from collections.abc import Mapping

import icechunk
import zarr

from data.archive.layout import attributes_of, write_root
from data.archive.leaving import come_to_rest
from data.archive.location import Location
from data.archive.schema import DatasetError
from robot_rl.core.specs import RobotSpec

BRANCH = "main"

atexit.register(come_to_rest)

# Icechunk warns on every open that local commits need a lock; `lock.py` is that lock.
icechunk.set_logs_filter("off")


def exists(location: Location) -> bool:
    """Whether a repository is there; looking for one makes nothing."""
    # Icechunk would make the directory just by looking.
    if location.repository is not None and not location.repository.is_dir():
        return False
    return icechunk.Repository.exists(location.storage())


def write_root_if_absent(repository: icechunk.Repository, spec: RobotSpec, codecs: Mapping[str, str]) -> None:
    """Makes a new repository a dataset; also one whose maker was killed before it could."""
    session = repository.writable_session(BRANCH)
    root = zarr.open_group(session.store, mode="a")
    if not attributes_of(root):
        write_root(root, spec, codecs)
        session.commit("new dataset")


def snapshot_named(repository: icechunk.Repository, url: str, name: str | None) -> str:
    """Id of the snapshot with this id or tag, of the newest one for None.

    Raises:
        DatasetError: There is none.
    """
    if name is None:
        return repository.lookup_branch(BRANCH)
    if name in repository.list_tags():
        return repository.lookup_tag(name)
    try:
        repository.lookup_snapshot(name)
    except icechunk.IcechunkError as error:
        raise DatasetError(
            f"no snapshot or tag '{name}' in dataset {url}: it is another dataset's, or it was garbage-collected; "
            f"robot-rl data history {url} shows what is there"
        ) from error
    return name
