"""A run that starts from another run's policy."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from data.archive.store import DatasetStore
from data.training.window_cache import select_episodes
from robot_rl.commands.train.main import main, train
from robot_rl.commands.train.plan import DataSettings, TrainSettings, keep_shortest
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.run.checkpoint import CheckpointError, load_policy, read_record
from robot_rl.run.training_loop import LogSettings
from tests.robot_rl.toy_dataset import toy_episode, write_toy_dataset

POLICY = {
    "_target_": "policies.diffusion.DiffusionPolicy",
    "streams": ["state"],
    "observation_count": 2,
    "horizon": 4,
    "execute_horizon": 2,
    "mlp": {"width": 16, "blocks": 1},
    "state_features": 8,
}


def settings(dataset: str, run: Path, **more) -> TrainSettings:
    steps = more.pop("steps", 6)
    return TrainSettings(
        dataset=dataset,
        run=str(run),
        policy=more.pop("policy", POLICY),
        imitation=ImitationConfig(steps=steps, batch_size=16, warmup_steps=2, learning_rate=3e-3),
        log=LogSettings(every=3, checkpoint_every=3, tracker="none"),
        device="cpu",
        **more,
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    return write_toy_dataset(tmp_path_factory.mktemp("first") / "toy", [Outcome.SUCCESS] * 4)


@pytest.fixture(scope="module")
def first(dataset, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "first"
    assert train(settings(dataset, run), quiet=True)
    return run


@pytest.fixture
def wider(tmp_path: Path) -> str:
    """A dataset whose actions and states span ten times as much."""
    url = write_toy_dataset(tmp_path / "wider", [Outcome.SUCCESS] * 2)
    with DatasetStore.open(url, writable=True) as store:
        episode = toy_episode(7)
        object.__setattr__(episode, "applied", episode.applied * 10)
        object.__setattr__(episode.streams["state"], "values", episode.streams["state"].values * 10)
        store.append(episode)
    return url


def test_the_normaliser_is_never_fitted_again(first, wider, tmp_path):
    assert train(settings(wider, tmp_path / "next", initial=str(first), policy={}), quiet=True)
    before, after = load_policy(first), load_policy(tmp_path / "next")
    for (name, one), other in zip(
        before.normalizer.state_dict().items(), after.normalizer.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert before.fingerprint() != after.fingerprint()


def test_a_run_starts_from_the_weights_of_its_parent(first, dataset, tmp_path):
    still = settings(dataset, tmp_path / "next", initial=str(first), policy={}, steps=1)
    still.imitation.learning_rate = 1e-12
    assert train(still, quiet=True)
    parent = load_policy(first).state_dict()
    for name, value in load_policy(tmp_path / "next").state_dict().items():
        torch.testing.assert_close(value, parent[name], rtol=0, atol=1e-9)


def test_the_provenance_names_the_parent(first, dataset, tmp_path):
    assert train(settings(dataset, tmp_path / "next", initial=str(first), policy={}), quiet=True)
    provenance = read_record(tmp_path / "next")["provenance"]
    assert provenance["parent"] == str(first / "checkpoints" / "00000006")
    assert provenance["parent_policy"] == load_policy(first).fingerprint()


def test_a_frozen_encoder_keeps_every_weight_while_the_denoiser_learns(first, dataset, tmp_path):
    frozen = settings(dataset, tmp_path / "next", initial=str(first), policy={}, freeze_encoder=True)
    assert train(frozen, quiet=True)
    before, after = load_policy(first), load_policy(tmp_path / "next")
    assert all(torch.equal(a, b) for a, b in zip(before.encoder.parameters(), after.encoder.parameters(), strict=True))
    pairs = zip(before.denoiser.parameters(), after.denoiser.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_a_run_resumes_wherever_its_parent_lies_but_not_without_it(first, dataset, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(first, other, symlinks=True)
    assert train(settings(dataset, tmp_path / "next", initial=str(first), policy={}), quiet=True)
    assert train(settings(dataset, tmp_path / "next", initial=str(other), policy={}), quiet=True)
    with pytest.raises(RobotRLError, match=r"initial: the run has '[0-9a-f]{16}', this command 'nothing'"):
        train(settings(dataset, tmp_path / "next"), quiet=True)


def test_a_parent_for_another_robot_is_refused(first, tmp_path):
    episode = toy_episode(0)
    faster = dataclasses.replace(episode.spec, control_hz=20.0)
    with DatasetStore.create(str(tmp_path / "other"), faster) as store:
        store.append(dataclasses.replace(episode, spec=faster))
    with pytest.raises(SpecMismatch, match=r"the initial policy .*first does not fit robot 'toy':\n.*control_hz"):
        train(settings(str(tmp_path / "other"), tmp_path / "next", initial=str(first), policy={}), quiet=True)


def test_a_parent_that_is_not_there_is_named(dataset, tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*nowhere"):
        train(settings(dataset, tmp_path / "next", initial=str(tmp_path / "nowhere"), policy={}), quiet=True)


def test_a_parent_and_policy_settings_together_are_refused(first, dataset, tmp_path):
    with pytest.raises(RobotRLError, match="brings its own policy"):
        main([f"dataset={dataset}", f"run={tmp_path / 'next'}", f"initial={first}", "policy.horizon=8"])


def test_only_the_shortest_share_of_the_successes_is_kept(tmp_path):
    lengths = [20, 12, 30, 9]
    url = write_toy_dataset(tmp_path / "toy", [])
    with DatasetStore.open(url, writable=True) as store:
        for number, ticks in enumerate(lengths):
            store.append(toy_episode(number, ticks=ticks))
    run = tmp_path / "run"
    assert train(settings(url, run, data=DataSettings(shortest_fraction=0.5)), quiet=True)
    assert read_record(run)["provenance"]["episodes"] == 2
    with DatasetStore.open(url) as store:
        kept = keep_shortest(store, select_episodes(store, [Outcome.SUCCESS]), 0.5)
        assert [store.info(each).result.ticks for each in kept.ids] == [12, 9]
        assert kept.left_out == {Outcome.SUCCESS: 2}
        with pytest.raises(RobotRLError, match="shortest_fraction is 0"):
            keep_shortest(store, kept, 0.0)
