"""Denoising chains of stored episodes that nothing was learned from yet; a dataset does not hold them.

run/chains/<iteration>/<seed>.npz

With them a session that stopped, or was killed, in the middle of an iteration goes on with it: robot time is dear.

Legend: `D` decisions, `K` denoising steps, `H` chunk length, `A` action dimension.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from data.archive.store import DatasetStore
from robot_rl.core.files import whole_file
from robot_rl.learning.collected import CollectedEpisode, SampledChunk


class KeptChains:
    """Chains by iteration and seed.

    Args:
        directory: Made when the first is kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, iteration: int, collected: CollectedEpisode) -> None:
        """Writes an episode's chains whole or not at all."""
        with whole_file(self._of(iteration) / f"{collected.episode.header.seed}.npz") as file:
            np.savez(
                file,
                ticks=np.array([each.tick for each in collected.decisions], np.int64),
                states=np.array([each.states for each in collected.decisions], np.float32),
            )

    def episodes(self, iteration: int, dataset: Path, policy: str) -> list[CollectedEpisode]:
        """The iteration's episodes, oldest first, as the dataset stores them (camera pictures may be compressed).

        Args:
            iteration: Counted from 0.
            dataset: Where they are stored.
            policy: Fingerprint of the policy that must have acted.
        """
        seeds = {int(path.stem) for path in self._of(iteration).glob("*.npz")}
        if not seeds:
            return []
        found = []
        with DatasetStore.open(str(dataset)) as store:
            for each in store.episode_ids():
                header = store.info(each).header
                if header.seed in seeds and header.policy == policy:
                    episode = store.read(each, tuple(store.spec.observations))
                    found.append(CollectedEpisode(episode, self._decisions(iteration, header.seed)))
        return found

    def forget_before(self, iteration: int) -> None:
        """Drops the chains of iterations that a checkpoint has learned from."""
        for place in self._directory.glob("*"):
            if int(place.name) < iteration:
                shutil.rmtree(place)

    def _decisions(self, iteration: int, seed: int) -> tuple[SampledChunk, ...]:
        with np.load(self._of(iteration) / f"{seed}.npz") as stored:
            pairs = zip(stored["ticks"].tolist(), stored["states"], strict=True)
            return tuple(SampledChunk(tick, states) for tick, states in pairs)

    def _of(self, iteration: int) -> Path:
        return self._directory / f"{iteration:08d}"
