import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data.archive.store import DatasetStore
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import SpecMismatch
from robot_rl.run.dataset import copy_demonstrations, require_same_robot
from tests.robot_rl.toy_dataset import SPEC, write_toy_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    return write_toy_dataset(tmp_path_factory.mktemp("data") / "toy", [Outcome.SUCCESS, Outcome.FAILURE])


def test_streams_that_the_robot_does_not_show_are_not_copied(dataset: str, tmp_path: Path):
    shown = SPEC.select(("state",))
    with DatasetStore.open(dataset) as source:
        require_same_robot(source, shown)
        copy_demonstrations(source, tmp_path / "copy", shown)
        with DatasetStore.open(str(tmp_path / "copy")) as copy:
            assert copy.spec == shown
            for one, other in zip(source.episode_ids(), copy.episode_ids(), strict=True):
                original, copied = source.read(one), copy.read(other)
                assert [*copied.streams] == ["state"]
                assert np.array_equal(copied.per_tick("state"), original.per_tick("state"))
                assert np.array_equal(copied.applied, original.applied)


def test_a_stream_that_was_not_recorded_is_a_mismatch_named_with_the_way_out(dataset: str):
    wrist = dataclasses.replace(SPEC.observations["state"], shape=(2,), names=())
    more = dataclasses.replace(SPEC, observations={**SPEC.observations, "wrist": wrist})
    with (
        DatasetStore.open(dataset) as source,
        pytest.raises(SpecMismatch, match=r"observations\.wrist\.shape: dataset has nothing(.|\n)*give a dataset"),
    ):
        require_same_robot(source, more)


def test_another_robots_dataset_is_refused_by_name(dataset: str):
    with DatasetStore.open(dataset) as source, pytest.raises(SpecMismatch, match=r"is 'other'"):
        require_same_robot(source, dataclasses.replace(SPEC, name="other"))
