"""A dataset in figures, for reports."""

from __future__ import annotations

from collections import Counter

from data.store import DatasetStore
from robot_rl.summary import DatasetFacts


def dataset_facts(url: str) -> DatasetFacts:
    """A dataset's newest state in figures."""
    with DatasetStore.open(url) as store:
        infos = [store.info(each) for each in store.episode_ids()]
        return DatasetFacts(
            url=url,
            snapshot=store.snapshot,
            outcomes=dict(Counter(str(info.result.outcome) for info in infos)),
            ticks=sum(info.result.ticks for info in infos),
            size_bytes=sum(info.bytes for info in infos),
            streams={name: f"{spec.shape} {spec.dtype}" for name, spec in store.spec.observations.items()},
        )
