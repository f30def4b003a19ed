"""Point clouds through every command: of a drawn depth camera where there is OpenGL, made up anywhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from data.archive.store import DatasetStore
from data.archive.verify import verify_dataset
from data.convert.diffusion_policy import layout_for, open_archive, write_archive
from hardware.sim import gl
from policies.onnx_policy import OnnxPolicy
from robot_rl import cli
from robot_rl.commands.data.show import show
from robot_rl.core.episode import Episode, Observation, Stream
from robot_rl.core.specs import ArraySpec
from tests.robot_rl.toy_dataset import SPEC, toy_episode

SMALL = (
    "policy=diffusion_points", "policy.points.widths=[8,16]", "policy.points.features=8", "policy.mlp.width=32",
    "policy.sampling_steps=3", "policy.auxiliary.points=16", "policy.auxiliary.width=32", "imitation.batch_size=16",
    "log.tracker=none", "device=cpu",
)  # fmt: skip
POINTS = ArraySpec((32, 6), "float32", "m xyz, rgb")
CLOUD_SPEC = dataclasses.replace(SPEC, observations={"state": SPEC.observations["state"], "cloud": POINTS})


def robot_rl(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def cloud_episode(number: int) -> Episode:
    """A ball of points that turns with the state, seen at every second tick."""
    toy = toy_episode(number)
    generator = np.random.default_rng(number)
    centres = toy.streams["state"].values[::2]
    xyz = centres[:, None] + generator.normal(0, 0.05, (len(centres), 32, 3))
    cloud = np.concatenate([xyz, generator.uniform(0, 1, xyz.shape)], axis=2).astype(np.float32)
    return dataclasses.replace(
        toy,
        spec=CLOUD_SPEC,
        streams={"state": toy.streams["state"], "cloud": Stream(toy.stamps_ns[::2], cloud)},
        frame_index={"state": toy.frame_index["state"], "cloud": np.arange(len(toy)) // 2},
    )


@pytest.fixture(scope="module")
def clouds(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("points") / "clouds"
    with DatasetStore.create(str(place), CLOUD_SPEC, {}) as store:
        for number in range(6):
            store.append(cloud_episode(number))
    return place


def test_stored_clouds_are_exact_and_sound(clouds):
    with DatasetStore.open(str(clouds)) as store:
        assert store.spec == CLOUD_SPEC
        read = store.read(store.episode_ids()[3])
        assert not [finding for _, findings in verify_dataset(store) for finding in findings]
    np.testing.assert_array_equal(read.streams["cloud"].values, cloud_episode(3).streams["cloud"].values)
    assert read.per_tick("cloud").shape == (20, 32, 6)


def test_a_policy_learns_from_clouds_is_exported_and_acts_whatever_the_order_of_points(clouds, tmp_path):
    run = tmp_path / "run"
    robot_rl("train", f"dataset={clouds}", f"run={run}", *SMALL, "imitation.steps=20", "log.every=5")
    robot_rl("export", f"run={run}")
    policy = OnnxPolicy(run / "bundle")
    assert list(policy.spec.observations) == ["cloud", "state"]
    seen = cloud_episode(9).observation(0).values
    shuffled = {**seen, "cloud": seen["cloud"][::-1]}
    chunks = []
    for values in (seen, shuffled):
        policy.reset(0)
        chunks.append(policy.act([Observation(0, values, dict.fromkeys(values, 0))]).values)
    assert np.isfinite(chunks[0]).all()
    np.testing.assert_allclose(*chunks, atol=1e-5)


def test_clouds_go_to_another_layout_and_are_the_same_there(clouds, tmp_path):
    with DatasetStore.open(str(clouds)) as store:
        episode = store.read(store.episode_ids()[0])
    write_archive(tmp_path / "archive", layout_for(CLOUD_SPEC), [episode])
    with open_archive(tmp_path / "archive") as archive:
        np.testing.assert_array_equal(archive.read("cloud", archive.rows(0)), episode.per_tick("cloud"))


def test_clouds_can_be_looked_at(clouds, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    with DatasetStore.open(str(clouds)) as store:
        show(store.read_encoded(store.episode_ids()[0]), "clouds", tmp_path / "clouds.rrd")
    assert (tmp_path / "clouds.rrd").stat().st_size > 1_000


@pytest.mark.skipif(gl.gl_backend() is None, reason=f"no OpenGL here: {gl.GL_REMEDY}")
def test_points_of_the_simulated_arm_go_from_the_depth_camera_to_a_policy_that_acts(tmp_path):
    dataset, run, output = tmp_path / "reach", tmp_path / "run", tmp_path / "eval"
    robot = ("task.name=reach-v3", "robot.points=64")
    robot_rl("collect", f"dataset={dataset}", *robot, "episodes=2", "operator.skill=clean", "task.max_ticks=60")
    with DatasetStore.open(str(dataset)) as store:
        assert store.spec.point_clouds == ("points",)
        assert not [finding for _, findings in verify_dataset(store) for finding in findings]
    outcomes = "data.outcomes=[success,failure,aborted]"
    robot_rl("train", f"dataset={dataset}", f"run={run}", *SMALL, "imitation.steps=20", outcomes)
    robot_rl("export", f"run={run}")
    robot_rl(
        "eval", *robot, f"policy={run / 'bundle'}", "episodes=1", f"output={output}", "task.max_ticks=15",
        "video_episodes=0",
    )  # fmt: skip
    assert json.loads((output / "eval.json").read_text())["episodes"] == 1
