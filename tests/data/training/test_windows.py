import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.training.window_cache import CacheContent, WindowCache, select_episodes, shrink
from data.training.windows import BatchOrder, WindowDataset, WindowIndex, split_episodes
from policies.images import ImageScaling
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

SPEC = RobotSpec(
    name="toy",
    observations={
        "state": ArraySpec((3,), "float32", "m"),
        "image": ArraySpec((8, 12, 3), "uint8", "rgb"),
        "count": ArraySpec((1,), "int64", "1"),
    },
    action=ArraySpec((2,), "float32", "m"),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=100.0,
)
TICK_NS = SPEC.tick_ns


def episode(number: int, ticks: int, outcome: Outcome = Outcome.SUCCESS) -> Episode:
    """Every value tells which episode and tick it is of; the camera shows a new frame every third tick."""
    tick = np.arange(ticks)
    stamps = tick * TICK_NS
    frames = -(-ticks // 3) + 1  # The last frame was seen by no tick.
    images = np.zeros((frames, 8, 12, 3), dtype=np.uint8)
    images[:] = (10 * number + np.arange(frames))[:, None, None, None]
    action = np.stack([np.full(ticks, number), tick], axis=1).astype(np.float32)
    return Episode(
        spec=SPEC,
        header=EpisodeHeader("t", "o", "", number, "2026-01-01T00:00:00Z", "0"),
        result=EpisodeResult(outcome, True, False, "", ticks),
        stamps_ns=stamps,
        streams={
            "state": Stream(stamps, np.stack([np.full(ticks, number), tick, -tick], axis=1).astype(np.float32)),
            "image": Stream(np.arange(frames) * 3 * TICK_NS, images),
            "count": Stream(stamps, tick[:, None].astype(np.int64)),
        },
        frame_index={"state": tick, "image": tick // 3, "count": tick},
        requested=action + 100,
        applied=action,
        source=np.zeros(ticks, np.uint8),
        reward=np.zeros(ticks, np.float32),
        filter_reasons=np.zeros(ticks, np.uint32),
    )


class Memory:
    """A dataset in memory that counts how often it is read."""

    spec = SPEC

    def __init__(self, episodes: list[Episode], snapshot: str = "S1") -> None:
        self.episodes = {f"{number:06d}": each for number, each in enumerate(episodes)}
        self.snapshot = snapshot
        self.reads = 0

    def episode_ids(self):
        return list(self.episodes)

    def info(self, episode_id):
        return self.episodes[episode_id]

    def read(self, episode_id, streams=None):
        self.reads += 1
        whole = self.episodes[episode_id]
        names = whole.streams if streams is None else streams
        return dataclasses.replace(
            whole,
            streams={name: whole.streams[name] for name in names},
            frame_index={name: whole.frame_index[name] for name in names},
        )


def content(source: Memory, **changes) -> CacheContent:
    plain = CacheContent(source.snapshot, source.spec, ("state", "image", "count"), tuple(source.episode_ids()))
    return dataclasses.replace(plain, **changes)


lengths = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@given(lengths, st.integers(1, 5), st.integers(1, 9))
def test_every_tick_has_one_window_and_no_window_crosses_an_episodes_end(ticks, observation_count, horizon):
    ends = np.cumsum(ticks)
    index = WindowIndex(ends, observation_count, horizon)
    assert len(index) == sum(ticks)
    rows = index.rows(np.arange(len(index)))
    windows = iter(range(len(index)))
    for end, length in zip(ends, ticks, strict=True):
        start = end - length
        for tick in range(start, end):
            window = next(windows)
            history = [max(start, tick - back) for back in range(observation_count - 1, -1, -1)]
            assert rows.observation[window].tolist() == history
            assert rows.action[window].tolist() == [min(end - 1, tick + ahead) for ahead in range(horizon)]
            assert rows.valid[window].tolist() == [tick + ahead < end for ahead in range(horizon)]


@given(lengths, st.data())
def test_windows_of_chosen_episodes_hold_only_those_episodes(ticks, data):
    chosen = data.draw(st.lists(st.integers(0, len(ticks) - 1), unique=True).map(sorted))
    ends = np.cumsum(ticks)
    index = WindowIndex(ends, 3, 4, chosen)
    rows = index.rows(np.arange(len(index)))
    seen = np.searchsorted(ends, rows.action[rows.valid], side="right")
    assert len(index) == sum(ticks[each] for each in chosen)
    assert set(seen.tolist()) == {each for each in chosen if ticks[each]}


@given(st.integers(0, 60), st.floats(0.0, 0.99), st.integers(0, 9))
def test_a_split_keeps_whole_episodes_aside_and_always_leaves_some_to_learn_from(count, fraction, seed):
    split = split_episodes(count, fraction, seed)
    assert sorted(split.training + split.held_out) == list(range(count))
    assert split == split_episodes(count, fraction, seed)
    assert (len(split.held_out) > 0) == (fraction > 0 and count > 1)
    assert len(split.training) > 0 or count == 0


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 5))
def test_each_pass_over_the_windows_reads_every_window_once(window_count, batch_size, seed):
    order = BatchOrder(window_count, batch_size, seed)
    steps = -(-2 * window_count // batch_size)
    drawn = np.concatenate([order.indices(step) for step in range(steps)])
    for start in (0, window_count):
        assert sorted(drawn[start : start + window_count].tolist()) == list(range(window_count))


def test_the_order_of_a_step_does_not_depend_on_what_was_asked_before():
    straight = BatchOrder(7, 3, seed=1)
    for step in range(50):
        straight.indices(step)
    assert BatchOrder(7, 3, seed=1).indices(50).tolist() == straight.indices(50).tolist()


def test_a_batch_reads_what_the_episodes_hold(tmp_path: Path):
    source = Memory([episode(0, 5), episode(1, 7)])
    dataset = WindowDataset(WindowCache.build(source, content(source), tmp_path), observation_count=2, horizon=4)
    batch = dataset.batch([0, 4, 8])
    assert {key: value.dtype.name for key, value in batch.items()} == {
        "obs/state": "float32",
        "obs/image": "uint8",
        "obs/count": "float32",
        "action": "float32",
        "valid": "bool",
    }
    assert batch["obs/image"].shape == (3, 2, 8, 12, 3)
    assert batch["obs/state"][:, :, :2].tolist() == [[[0, 0], [0, 0]], [[0, 3], [0, 4]], [[1, 2], [1, 3]]]
    assert batch["obs/image"][:, :, 0, 0, 0].tolist() == [[0, 0], [1, 1], [10, 11]]
    assert batch["action"][2].tolist() == [[1, 3], [1, 4], [1, 5], [1, 6]]
    assert batch["valid"][1].tolist() == [True, False, False, False]


def test_a_slow_cameras_frames_are_held_once_and_unseen_frames_not_at_all(tmp_path: Path):
    source = Memory([episode(0, 6), episode(1, 3)])
    cache = WindowCache.build(source, content(source), tmp_path)
    assert np.load(cache.directory / "stream.image.npy").shape == (3, 8, 12, 3)


def test_a_cache_is_built_once_and_opened_afterwards(tmp_path: Path):
    source = Memory([episode(0, 5)])
    WindowCache.build(source, content(source), tmp_path)
    reads = source.reads
    again = WindowCache.build(source, content(source), tmp_path)
    assert source.reads == reads
    assert again.episode_ends.tolist() == [5]


@pytest.mark.parametrize(
    "change",
    [
        {"snapshot": "S2"},
        {"spec": dataclasses.replace(SPEC, control_hz=50.0)},
        {"streams": ("state",)},
        {"image_sizes": {"image": (4, 6)}},
        {"episodes": ("000001",)},
        {"action_source": "requested"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_content_decides_the_name(change):
    source = Memory([episode(0, 5), episode(1, 5)])
    assert content(source).key() != content(source, **change).key()


def test_the_order_in_which_streams_are_named_does_not_matter():
    source = Memory([episode(0, 5)])
    assert content(source).key() == content(source, streams=("image", "count", "state")).key()


def test_naming_the_robots_own_image_size_is_the_same_cache():
    source = Memory([episode(0, 5)])
    assert content(source).key() == content(source, image_sizes={"image": (8, 12)}).key()


def test_requested_actions_can_be_learned_instead_of_applied_ones(tmp_path: Path):
    source = Memory([episode(0, 5)])
    cache = WindowCache.build(source, content(source, action_source="requested"), tmp_path)
    assert cache.read_actions(np.arange(2)).tolist() == [[100, 100], [100, 101]]


def test_images_are_resized_once_when_the_cache_is_built(tmp_path: Path):
    source = Memory([episode(3, 4)])
    cache = WindowCache.build(source, content(source, image_sizes={"image": (4, 6)}), tmp_path)
    images = cache.read("image", np.array([0, 3]))
    assert images.shape == (2, 4, 6, 3)
    assert images[:, 0, 0, 0].tolist() == [30, 31]


@given(st.integers(2, 90), st.integers(2, 90), st.data())
@settings(max_examples=40, deadline=None)
def test_a_frame_shrunk_for_training_is_what_the_policy_makes_of_it_when_it_runs(height, width, data):
    target = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    frame = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scaled = ImageScaling((height, width), target)(torch.from_numpy(frame)[None])
    running = (scaled[0].permute(1, 2, 0).numpy() + 1.0) * 127.5
    assert np.abs(shrink(frame, *target) - running).max() <= 1.0


def test_a_frame_is_never_enlarged():
    with pytest.raises(RobotRLError, match="can only be shrunk"):
        shrink(np.zeros((8, 12, 3), np.uint8), 9, 6)


def test_only_wanted_outcomes_are_learned_from_and_the_rest_is_counted():
    outcomes = [Outcome.SUCCESS, Outcome.FAILURE, Outcome.ABORTED, Outcome.SUCCESS, Outcome.FAILURE]
    source = Memory([episode(number, 3, outcome) for number, outcome in enumerate(outcomes)])
    selection = select_episodes(source, [Outcome.SUCCESS])
    assert selection.ids == ("000000", "000003")
    assert selection.describe() == "2 of 5 episodes (left out: 2 failure, 1 aborted)"


def test_nothing_to_learn_from_says_what_there_is():
    source = Memory([episode(0, 3, Outcome.FAILURE), episode(1, 3, Outcome.ABORTED)])
    with pytest.raises(RobotRLError, match=r"wanted episodes with outcome success, the dataset has 1 failure, 1 abor"):
        select_episodes(source, [Outcome.SUCCESS])


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path):
    broken = episode(1, 4)
    broken.streams["state"].values[2, 1] = np.nan
    source = Memory([episode(0, 4), broken])
    with pytest.raises(RobotRLError, match="episode 000001: state holds NaN"):
        WindowCache.build(source, content(source), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    source = Memory([episode(0, 4)])
    with pytest.raises(RobotRLError, match=r"cannot build the window cache in .*file.*data\.cache="):
        WindowCache.build(source, content(source), blocked)


@pytest.mark.parametrize("name", ["stream.image.npy", "frame_index.image.npy", "episode_ends.npy", "content.json"])
@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 60), Path.unlink], ids=["cut short", "missing"])
def test_a_damaged_cache_says_how_to_mend_it(tmp_path: Path, name: str, damage):
    source = Memory([episode(0, 4)])
    damage(WindowCache.build(source, content(source), tmp_path).directory / name)
    with pytest.raises(RobotRLError, match=r"is damaged .*: delete it, the next run builds it again"):
        WindowCache.build(source, content(source), tmp_path)


KILLED_BUILD = textwrap.dedent(
    """
    import importlib.util, os, signal, sys
    from pathlib import Path
    loader = importlib.util.spec_from_file_location("windows_test", sys.argv[1])
    test = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(test)
    source = test.Memory([test.episode(number, 9) for number in range(4)])

    def die(done, total):
        if done == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    test.WindowCache.build(source, test.content(source), Path(sys.argv[2]), die)
    """
)


@pytest.mark.parametrize("episodes_before_the_kill", [1, 4])
def test_a_killed_build_is_never_taken_for_whole(tmp_path: Path, episodes_before_the_kill: int):
    arguments = [sys.executable, "-c", KILLED_BUILD, __file__, str(tmp_path), str(episodes_before_the_kill)]
    repository = Path(__file__).parents[3]
    killed = subprocess.run(arguments, cwd=repository, env=os.environ | {"PYTHONPATH": str(repository)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    source = Memory([episode(number, 9) for number in range(4)])
    cache = WindowCache.build(source, content(source), tmp_path)
    assert source.reads > 0
    assert cache.episode_ends.tolist() == [9, 18, 27, 36]
    assert [path.name for path in tmp_path.iterdir()] == [content(source).key()]


def test_the_cache_says_in_words_what_it_holds(tmp_path: Path):
    source = Memory([episode(0, 4)])
    cache = WindowCache.build(source, content(source), tmp_path)
    document = json.loads((cache.directory / "content.json").read_text())
    assert document["snapshot"] == "S1"
    assert document["episodes"] == ["000000"]
    assert document["image_sizes"] == {"image": [8, 12]}
