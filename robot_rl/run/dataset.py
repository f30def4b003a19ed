"""A run's own dataset: the demonstrations it began with and the rollouts it added; the user's is only ever read.

Every rollout is named by the policy that made it and by its seed. So what a killed run has stored already is found
again, and neither collected nor stored twice.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data.archive.schema import EpisodeInfo, encode_episode, spec_differences
from data.archive.store import DatasetStore
from robot_rl.core.episode import Episode, Outcome
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.core.specs import RobotSpec

NAMESPACE = uuid.UUID("8a5c5f53-6d0f-4d5f-9f3e-3f3c8d5d1a52")
LABELLED = (Outcome.SUCCESS, Outcome.FAILURE)
EPISODES_PER_TRANSACTION = 25
"""A kill costs this many rollouts at most; every transaction adds to the dataset's history."""
SIMULTANEOUS_WRITER_S = 10.0
"""How long to wait for a killed predecessor's lock to be seen as free."""

Collect = Callable[[Sequence[int]], Iterable[Episode]]
"""Episodes of seeds, in their order."""


class NoDemonstrations(RobotRLError):
    """A dataset without an episode to learn from."""


def require_same_robot(source: DatasetStore, spec: RobotSpec) -> None:
    """Refuses a dataset of another robot: rollouts join the demonstrations, so it must be the very one.

    The dataset may have more streams than the robot shows; they are not copied.

    Raises:
        SpecMismatch: Names what differs.
    """
    if source.spec.name != spec.name:
        raise SpecMismatch(
            f"dataset {source.url} is of robot '{source.spec.name}', this command's is '{spec.name}': give a dataset "
            "that this robot recorded, or the robot of the dataset (robot=...)"
        )
    differences = spec_differences(source.spec.select(_shared(source.spec, spec)), spec)
    if differences:
        raise SpecMismatch(
            f"dataset {source.url} does not fit robot '{spec.name}':\n  "
            + "\n  ".join(differences)
            + "\ngive a dataset that this robot recorded, or change robot.* to what the dataset was recorded with"
        )


def _shared(recorded: RobotSpec, shown: RobotSpec) -> tuple[str, ...]:
    """Streams of a recording that a robot shows too, in the robot's order."""
    return tuple(name for name in shown.observations if name in recorded.observations)


def demonstrations_of(source: DatasetStore) -> list[EpisodeInfo]:
    """Episodes that are labelled a success or a failure.

    Raises:
        NoDemonstrations: There are none.
    """
    infos = [source.info(each) for each in source.episode_ids()]
    chosen = [info for info in infos if info.result.outcome in LABELLED and info.result.ticks > 0]
    if not chosen:
        outcomes = Counter(str(info.result.outcome) for info in infos)
        has = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "no episodes"
        raise NoDemonstrations(
            f"dataset {source.url} has {has}, wanted episodes labelled success or failure: record some with "
            f"robot-rl collect dataset={source.url}"
        )
    return chosen


def copy_demonstrations(source: DatasetStore, place: Path, spec: RobotSpec) -> dict[str, Any]:
    """Copies labelled episodes as they are stored, all in one transaction; aborted ones are left out.

    Args:
        source: Opened at the snapshot to copy.
        place: The run's dataset, made if absent; what it has already is not copied again.
        spec: The robot's; streams that it does not show are left out.

    Returns:
        `snapshot` of the copy, and how many episodes of each outcome were `copied` and `left_out`.

    Raises:
        NoDemonstrations: No episode is labelled a success or a failure.
        SpecMismatch: Another robot's dataset is at `place`.
    """
    infos = [source.info(each) for each in source.episode_ids()]
    chosen = demonstrations_of(source)
    copied = Counter(str(info.result.outcome) for info in chosen)
    left_out = Counter(str(info.result.outcome) for info in infos) - copied
    streams = _shared(source.spec, spec)
    codecs = {name: codec for name, codec in source.codecs.items() if name in streams}
    with DatasetStore.create(str(place), source.spec.select(streams), codecs) as target:
        present = stored_uuids(target)
        missing = [info.id for info in chosen if info.uuid not in present]
        if missing:
            target.append_encoded(*(source.read_encoded(each, streams) for each in missing))
        return {"snapshot": target.snapshot, "copied": dict(copied), "left_out": dict(left_out)}


def stored_uuids(store: DatasetStore) -> dict[str, str]:
    """Name of every stored recording to its id."""
    return {store.info(each).uuid: each for each in store.episode_ids()}


def rollout_uuid(policy: str, seed: int) -> str:
    """Name of the recording of a policy's episode; `policy` is its fingerprint."""
    return uuid.uuid5(NAMESPACE, f"{policy} {seed}").hex


def append_rollouts(place: Path, policy: str, seeds: Sequence[int], collect: Collect) -> dict[str, Any]:
    """Collects a policy's episodes and appends them, some per transaction.

    Args:
        place: The run's dataset.
        policy: Fingerprint of the policy.
        seeds: Of the episodes; one that is stored already is not collected again.
        collect: Runs episodes.

    Returns:
        `snapshot`, `episodes`, `ticks` and the number of each of `outcomes`, over all seeds.
    """
    with DatasetStore.open(str(place), writable=True, wait_s=SIMULTANEOUS_WRITER_S) as store:
        present = stored_uuids(store)
        missing = [seed for seed in seeds if rollout_uuid(policy, seed) not in present]
        for first in range(0, len(missing), EPISODES_PER_TRANSACTION):
            batch = missing[first : first + EPISODES_PER_TRANSACTION]
            encoded = [
                encode_episode(episode, store.codecs, rollout_uuid(policy, seed))
                for seed, episode in zip(batch, collect(batch), strict=True)
            ]
            store.append_encoded(*encoded)
        present = stored_uuids(store)
        results = [store.info(present[rollout_uuid(policy, seed)]).result for seed in seeds]
        return {
            "snapshot": store.snapshot,
            "episodes": len(results),
            "ticks": sum(result.ticks for result in results),
            "outcomes": dict(Counter(str(result.outcome) for result in results)),
        }


def labelled_episodes(place: Path, snapshot: str, spec: RobotSpec) -> Iterator[Episode]:
    """Successes and failures of a snapshot, oldest first, with the streams that a policy sees."""
    with DatasetStore.open(str(place), snapshot=snapshot) as store:
        for each in store.episode_ids():
            result = store.info(each).result
            if result.outcome in LABELLED and result.ticks > 0:
                yield store.read(each, tuple(spec.observations))


def outcomes_of(place: Path, snapshot: str) -> Counter[str]:
    """How many episodes of each outcome a snapshot holds."""
    with DatasetStore.open(str(place), snapshot=snapshot) as store:
        return Counter(str(store.info(each).result.outcome) for each in store.episode_ids())
