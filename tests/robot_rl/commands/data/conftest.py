"""A dataset for every verb."""

from pathlib import Path

import pytest

from data.archive.store import DatasetStore
from robot_rl.core.episode import Outcome, Source
from tests.data.sound_episodes import SPEC
from tests.robot_rl.commands.data.labelled_episodes import EPISODES, labelled


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Three successes and, in place 2, a failure that a policy drove for the most part."""
    url = str(tmp_path / "reach")
    with DatasetStore.create(url, SPEC, {"camera": "png"}) as store:
        for seed in range(EPISODES):
            episode = labelled(seed, Outcome.FAILURE if seed == 2 else Outcome.SUCCESS)
            if seed == 2:
                episode.source[:9] = Source.POLICY
            store.append(episode)
    return url
