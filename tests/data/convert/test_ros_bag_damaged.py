"""A bag that lacks something, is cut off, or holds what cannot be true: said, counted, never a crash."""

import contextlib

import numpy as np
import pytest

from data.convert.bag_file import BagError, BagFile, BagTopic, bags_at
from data.convert.bag_script import ImportReport
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from tests.data.bag_imports import TICKS, imported, stamp_of
from tests.data.bags import (
    JOINTS,
    MS,
    START_NS,
    TICK_NS,
    S,
    Sent,
    arm_node_commands,
    joint_state,
    numbers,
    robot,
    sensors,
    trajectory,
    write_bag,
)


def test_everything_that_a_bag_lacks_is_named_beside_what_it_has(tmp_path):
    stream = [each for each in sensors(5, np.random.default_rng(0)) if "tool_pose" not in each.topic]
    other = [
        each._replace(topic="/arm/tool_posee") for each in sensors(5, np.random.default_rng(0)) if "pose" in each.topic
    ]
    wrong = [Sent(START_NS, "/arm/command", numbers(0.0))]
    with pytest.raises(BagError) as caught:
        imported(write_bag(tmp_path / "bag", [*stream, *other, *wrong]))
    message = str(caught.value)
    assert "no topic /arm/tool_pose for stream 'tool_pose'; did you mean /arm/tool_posee?" in message
    assert "/arm/command for commands is std_msgs/msg/Float64MultiArray, wanted trajectory_msgs" in message
    assert "/left/image_raw  sensor_msgs/msg/Image  " in message


def test_a_topic_without_a_message_is_told_from_one_that_is_not_there(tmp_path):
    with BagFile(write_bag(tmp_path / "bag", arm_node_commands(3))) as bag:
        assert bag.topics["/arm/command"] == ("trajectory_msgs/msg/JointTrajectory", 3)
        with pytest.raises(BagError, match="no topic /arm/comand for commands; did you mean /arm/command"):
            bag.require([BagTopic("/arm/comand", (), "commands")])


def test_a_stream_of_which_nothing_can_be_used_says_why(tmp_path):
    section = robot()
    section["streams"]["joint_position"]["joints"] = ["shoulder", "wrist"]
    path = write_bag(tmp_path / "bag", [*sensors(5, np.random.default_rng(0)), *arm_node_commands(5)])
    with pytest.raises(BagError, match=r"nothing could be seen of 'joint_position'.*'wrist'"):
        imported(path, section)


def test_commands_that_go_back_in_time_are_refused(tmp_path):
    twice = [*arm_node_commands(5), *(e._replace(arrival_ns=e.arrival_ns + S) for e in arm_node_commands(5))]
    path = write_bag(tmp_path / "bag", [*sensors(30, np.random.default_rng(0)), *twice])
    with pytest.raises(BagError, match=r"commands on /arm/command go back.*--split-topic"):
        imported(path)


def test_a_command_that_holds_nan_is_left_out_and_counted(tmp_path):
    commands = arm_node_commands(TICKS)
    broken = [
        each._replace(message=trajectory(stamp_of(each.message), JOINTS, (np.nan, 0.0)))
        if each.topic == "/arm/command" and each.arrival_ns == START_NS + 5 * TICK_NS + 2 * MS
        else each
        for each in commands
    ]
    report = ImportReport()
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *broken]), report=report)
    assert report.unusable == {"/arm/command": 1}
    assert START_NS + 5 * TICK_NS not in episode.stamps_ns


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_bag_that_is_cut_off_says_so(storage, kept, tmp_path):
    path = write_bag(tmp_path / "bag", [*sensors(TICKS, np.random.default_rng(0)), *arm_node_commands(TICKS)], storage)
    [file] = [each for each in path.iterdir() if each.suffix in (".mcap", ".db3")]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(BagError, match=r"(cut off|opened|end)"):
        imported(path)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bytes_that_were_overwritten_never_crash_the_import(storage, tmp_path):
    path = write_bag(tmp_path / "bag", [*sensors(10, np.random.default_rng(0)), *arm_node_commands(10)], storage)
    [file] = [each for each in path.iterdir() if each.suffix in (".mcap", ".db3")]
    whole = file.read_bytes()
    for seed in range(12):
        generator = np.random.default_rng(seed)
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 40):
            damaged[place] = generator.integers(0, 256)
        file.write_bytes(damaged)
        with contextlib.suppress(RobotRLError):
            imported(path)


def test_a_directory_without_metadata_says_what_to_run(tmp_path):
    (tmp_path / "left.mcap").write_bytes(b"")
    (tmp_path / "right.mcap").write_bytes(b"")
    with pytest.raises(BagError, match=r"no metadata\.yaml.*it holds left\.mcap, right\.mcap.*ros2 bag reindex"):
        BagFile(tmp_path)
    with pytest.raises(BagError, match="does not exist"):
        BagFile(tmp_path / "nothing")


def test_a_single_file_and_a_directory_of_bags_are_read_as_well(tmp_path):
    sent = [*sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0), *arm_node_commands(TICKS)]
    first = write_bag(tmp_path / "bags" / "a", sent) if (tmp_path / "bags").mkdir() is None else None
    second = write_bag(tmp_path / "bags" / "b", sent, "sqlite3")
    assert bags_at(tmp_path / "bags") == [first, second]
    [file] = first.glob("*.mcap")
    assert bags_at(file) == [file]
    [episode] = imported(file)
    [same] = imported(second)
    np.testing.assert_array_equal(episode.stamps_ns, same.stamps_ns)
    (first / "metadata.yaml").unlink()
    assert bags_at(first) == [file]


def changed_joints(stream, between, position, names=("shoulder", "elbow")):
    """A recording in which the joints' driver says something else between two times [s]."""
    first_ns, last_ns = (START_NS + round(each * S) for each in between)
    for each in stream:
        ours = each.topic == "/arm/joint_states" and "finger" not in each.message.name
        if ours and first_ns <= each.arrival_ns < last_ns:
            yield each._replace(message=joint_state(each.arrival_ns, names, position))
        else:
            yield each


@pytest.mark.parametrize("position", [(0.0, 0.0), (4095.0, 4095.0), (9.0, -9.0)])
def test_a_false_sample_in_a_bag_is_not_used_but_counted_and_named(position, tmp_path):
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    false = [*changed_joints(stream, (1.0, 1.0101), position)]
    assert 1 <= sum(a != b for a, b in zip(stream, false, strict=True)) <= 2
    report = ImportReport()
    [episode] = imported(write_bag(tmp_path / "bag", [*false, *arm_node_commands(TICKS)]), report=report)
    [sound] = imported(write_bag(tmp_path / "sound", [*stream, *arm_node_commands(TICKS)]))
    assert len(episode) == len(sound) == TICKS
    np.testing.assert_allclose(episode.per_tick("joint_position"), sound.per_tick("joint_position"), atol=0.2)
    assert 1 <= report.implausible["joint_position"] <= 2
    assert "' went from " in report.implausible_because["joint_position"]
    assert report.cut == []


def test_several_false_samples_in_a_row_end_the_episode_there_with_words(tmp_path):
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    false = [*changed_joints(stream, (1.0, 1.2), (9.0, -9.0))]
    report = ImportReport()
    [episode] = imported(write_bag(tmp_path / "bag", [*false, *arm_node_commands(TICKS)]), report=report)
    assert 19 <= len(episode) <= 21
    assert np.abs(episode.per_tick("joint_position")).max() <= 1.0
    assert episode.result.outcome is Outcome.ABORTED
    assert episode.result.truncated
    assert "samples in a row cannot be true" in episode.result.reason
    [words] = report.cut
    assert f"bag: an episode ends after {len(episode)} ticks: joint_position: 3 samples in a row" in words


def test_what_comes_after_a_cut_begins_anew_with_the_next_episode(tmp_path):
    stream = sensors(2 * TICKS, np.random.default_rng(0), jitter_ms=0.0)
    false = changed_joints(stream, (1.0, 1.2), (9.0, -9.0))
    commands = [*arm_node_commands(TICKS, seed=1), *arm_node_commands(TICKS, first=TICKS, seed=2)]
    first, second = imported(write_bag(tmp_path / "bag", [*false, *commands]))
    assert first.result.outcome is Outcome.ABORTED
    assert len(second) >= TICKS - 2
    assert second.result.outcome is not Outcome.ABORTED


def test_an_arm_that_a_reset_puts_elsewhere_is_no_false_sample(tmp_path):
    stream = sensors(2 * TICKS, np.random.default_rng(0), jitter_ms=0.0)
    elsewhere = changed_joints(stream, (TICKS / 20 - 0.06, 2 * TICKS / 20), (2.9, -2.9))
    commands = [*arm_node_commands(TICKS - 4, seed=1), *arm_node_commands(TICKS - 4, first=TICKS + 4, seed=2)]
    moved = [
        each._replace(arrival_ns=START_NS + (TICKS - 2) * TICK_NS)
        if each.topic == "/arm/reset" and each.arrival_ns > START_NS + S
        else each
        for each in commands
    ]
    report = ImportReport()
    episodes = imported(write_bag(tmp_path / "bag", [*elsewhere, *moved]), report=report)
    assert [len(each) for each in episodes] == [TICKS - 4, TICKS - 4]
    assert report.implausible == {}
    assert report.cut == []


def test_joints_that_no_message_holds_together_are_said_to_and_two_streams_proposed(tmp_path):
    section = robot()
    section["streams"]["joint_position"]["joints"] = [*JOINTS, "finger"]
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    with pytest.raises(BagError, match=r"no message holds all of .*Make a stream of each part"):
        imported(write_bag(tmp_path / "bag", [*stream, *arm_node_commands(TICKS)]), section)


def test_a_bag_of_two_arms_on_one_topic_says_so_and_gives_no_episode(tmp_path):
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    other = [
        each._replace(
            arrival_ns=each.arrival_ns + 5 * MS, message=joint_state(each.arrival_ns + 5 * MS, JOINTS, (2.5, -2.5))
        )
        for each in stream
        if each.topic == "/arm/joint_states" and "finger" not in each.message.name
    ]
    with pytest.raises(BagError, match=r"not one of 60 ticks .* cannot be true.* whether two drivers publish"):
        imported(write_bag(tmp_path / "bag", [*stream, *other, *arm_node_commands(TICKS)]))


def test_a_stream_that_ends_with_a_fault_costs_only_the_episodes_that_it_is_missing_in(tmp_path):
    stream = sensors(2 * TICKS, np.random.default_rng(0), jitter_ms=0.0)
    false = changed_joints(stream, (1.0, 1.2), (9.0, -9.0))
    ended = [each for each in false if each.topic != "/arm/joint_states" or each.arrival_ns < START_NS + round(1.2 * S)]
    commands = [*arm_node_commands(TICKS, seed=1), *arm_node_commands(TICKS, first=TICKS, seed=2)]
    report = ImportReport()
    [episode] = imported(write_bag(tmp_path / "bag", [*ended, *commands]), report=report)
    assert episode.result.outcome is Outcome.ABORTED
    assert report.stale_ticks == TICKS
