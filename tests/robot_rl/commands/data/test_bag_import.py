"""`robot-rl data import bag`: the whole command on real bags."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from data.archive.store import DatasetStore
from robot_rl.commands.data.main import main
from robot_rl.core.episode import Outcome
from tests.data.bags import (
    JOINTS,
    START_NS,
    TICK_NS,
    arm_node_commands,
    joint_state,
    robot,
    sensors,
    write_bag,
)

TICKS = 40


@pytest.fixture(autouse=True)
def own_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's directory with the small arm in it."""
    file = tmp_path / "mine" / "robot" / "ros" / "small.yaml"
    file.parent.mkdir(parents=True)
    limits = {"start": {"elbow": 0.0}}
    file.write_text("# @package _global_\n" + yaml.safe_dump({"robot": robot(), "limits": limits}, sort_keys=False))
    monkeypatch.setenv("ROBOT_RL_CONFIGS", str(tmp_path / "mine"))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    sent = [*sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0), *arm_node_commands(TICKS, seed=11)]
    return write_bag(tmp_path / "bag", sent)


def run(*argv: object) -> int:
    return main(["import", "bag", *map(str, argv)])


def test_a_bag_becomes_a_dataset(bag, tmp_path, capsys):
    url = tmp_path / "dataset"
    assert run(bag, url, "robot=ros/small", "task=peg_insert", "--outcome", "failure") == 2
    assert "Could not find 'task/peg_insert'" in capsys.readouterr().err
    assert run(bag, url, "robot=ros/small", "task=door_open", "--operator", "anna", "--codec", "png") == 0
    assert f"imported 1 episodes, {TICKS} ticks" in capsys.readouterr().out
    with DatasetStore.open(str(url)) as store:
        [episode_id] = store.episode_ids()
        episode = store.read(episode_id)
    assert (episode.header.task, episode.header.operator, episode.header.seed) == ("door-open-v3", "anna", 11)
    assert (episode.spec.name, episode.spec.control_hz) == ("small", 20.0)
    assert episode.result.outcome is Outcome.SUCCESS
    assert main(["verify", str(url), "--errors-only"]) == 0


def test_streams_that_are_not_wanted_stay_behind(bag, tmp_path):
    url = tmp_path / "dataset"
    assert run(bag, url, "robot=ros/small", "--streams", "joint_position", "--task", "reach") == 0
    with DatasetStore.open(str(url)) as store:
        assert [*store.spec.observations] == ["joint_position"]
        assert store.info(store.episode_ids()[0]).header.task == "reach"


def test_a_directory_of_bags_is_one_episode_each_and_all_or_nothing(tmp_path, capsys):
    (tmp_path / "bags").mkdir()
    for number in range(3):
        sent = [*sensors(TICKS, np.random.default_rng(number), jitter_ms=0.0), *arm_node_commands(TICKS)]
        write_bag(tmp_path / "bags" / f"bag_{number}", sent, "sqlite3" if number == 1 else "mcap")
    assert run(tmp_path / "bags", tmp_path / "dataset", "robot=ros/small") == 0
    with DatasetStore.open(str(tmp_path / "dataset")) as store:
        assert len(store.episode_ids()) == 3
    [last] = (tmp_path / "bags" / "bag_2").glob("*.mcap")
    last.write_bytes(last.read_bytes()[:-100])
    assert run(tmp_path / "bags", tmp_path / "dataset", "robot=ros/small", "--append") == 2
    assert "cut off" in capsys.readouterr().err
    with DatasetStore.open(str(tmp_path / "dataset")) as store:
        assert len(store.episode_ids()) == 3


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((), "add robot=ros/my_arm"),
        (("robot=metaworld",), "a bag can be read with the yaml of a robot behind topics (robot=ros/...)"),
        (("robot=ros/smal",), "did you mean ros/small?"),
        (("robot=ros/small", "--control-hz", "10"), "robot.control_hz=..."),
        (("robot=ros/small", "--robot", "me"), "robot.name=..."),
        (("robot=ros/small", "--streams", "depth"), "robot.streams has no 'depth'; it has joint_position, tool_pose"),
        (("robot=ros/small", "robot.namespace=/leg"), "no topic /leg/command for commands; did you mean /arm/command?"),
        (("robot=ros/small", "robot.streams.tool_pose.kind=joint"), "kind is 'joint', wanted one of"),
        (("robot=ros/small", "--codec", "gif"), "no image codec 'gif'"),
        (("robot=ros/small", "--split-topic", "marker"), "no topic /arm/marker for episodes"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(bag, tmp_path, extra, message, capsys):
    assert run(bag, tmp_path / "dataset", *extra) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "dataset").exists()


def test_a_second_import_needs_append(bag, tmp_path, capsys):
    url = tmp_path / "dataset"
    assert run(bag, url, "robot=ros/small") == 0
    assert run(bag, url, "robot=ros/small") == 2
    assert "add --append" in capsys.readouterr().err
    assert run(bag, url, "robot=ros/small", "--append") == 0


def test_settings_are_for_bags_only(tmp_path, capsys):
    assert main(["import", "diffusion-policy", str(tmp_path), str(tmp_path / "d"), "robot=ros/small"]) == 2
    assert "'robot=ros/small' is a setting of a bag's robot" in capsys.readouterr().err


def test_what_was_left_out_is_said(tmp_path, capsys):
    frozen = [
        each
        for each in sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
        if each.topic != "/left/image_raw" or each.arrival_ns < arm_node_commands(21)[-1].arrival_ns
    ]
    commands = [*arm_node_commands(10), *arm_node_commands(5, first=33)]
    kept = [each for each in commands if each.topic != "/arm/applied" or each.arrival_ns != commands[7].arrival_ns]
    path = write_bag(tmp_path / "bag", [*frozen, *kept])
    assert run(path, tmp_path / "dataset", "robot=ros/small") == 0
    said = capsys.readouterr().out
    assert "left out 5 ticks at which a stream was stale; the first: image_left is" in said
    assert "1 commands were not acknowledged" in said
    assert "pause for up to 1.2 s" in said


def test_samples_that_no_body_could_have_reached_are_said_and_where_they_end_an_episode(tmp_path, capsys):
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    begin_ns, until_ns = (START_NS + tick * TICK_NS for tick in (10, 14))
    false = [
        each._replace(message=joint_state(each.arrival_ns, JOINTS, (9.0, -9.0)))
        if each.topic == "/arm/joint_states" and begin_ns <= each.arrival_ns < until_ns
        else each
        for each in stream
    ]
    path = write_bag(tmp_path / "bag", [*false, *arm_node_commands(TICKS)])
    assert run(path, tmp_path / "dataset", "robot=ros/small") == 0
    said = capsys.readouterr().out
    assert "samples of 'joint_position' were not used, as no body could have reached them; the first: '" in said
    assert "bag: an episode ends after 1" in said
    assert "joint_position: 3 samples in a row cannot be true" in said
    with DatasetStore.open(str(tmp_path / "dataset")) as store:
        [episode_id] = store.episode_ids()
        assert store.info(episode_id).result.outcome is Outcome.ABORTED
