"""Episodes with an outcome of choice, and which there are."""

import dataclasses

from data.archive.store import DatasetStore
from robot_rl.core.episode import Outcome
from tests.data.sound_episodes import make_episode

EPISODES = 4


def labelled(seed: int, outcome: Outcome):
    episode = make_episode(seed=seed)
    ended = outcome is not Outcome.ABORTED
    result = dataclasses.replace(episode.result, outcome=outcome, terminated=ended, truncated=not ended)
    return dataclasses.replace(episode, result=result)


def ids_of(url: str) -> list[str]:
    with DatasetStore.open(url) as store:
        return store.episode_ids()
