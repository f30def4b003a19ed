"""Bags become the episodes that a live session would have recorded."""

import dataclasses

import numpy as np
import pytest

from data.convert.bag_file import BagError, BagFile
from data.convert.bag_script import ImportReport
from data.convert.diffusion_policy import Facts
from data.convert.ros_bag import BagSettings, episodes_of
from robot_rl.commands.data.bag_view import bag_layout
from robot_rl.core.episode import Outcome, Source
from tests.data.bag_imports import TICKS, assert_same_observations, imported, live, stamp_of
from tests.data.bags import (
    JOINTS,
    MS,
    START_NS,
    TICK_NS,
    S,
    Sent,
    arm_node_commands,
    header,
    in_order,
    joint_state,
    numbers,
    pose,
    robot,
    row_at,
    sensors,
    trajectory,
    twist,
    write_bag,
)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_bag_shows_what_a_live_session_saw(storage, seed, tmp_path):
    stream = sensors(TICKS, np.random.default_rng(seed))
    path = write_bag(tmp_path / "bag", [*stream, *arm_node_commands(TICKS)], storage)
    [episode] = imported(path)
    ticks_ns = [START_NS + tick * TICK_NS for tick in range(TICKS)]
    assert_same_observations(episode, live(stream, ticks_ns))
    assert len(episode) > TICKS // 2


def test_two_cameras_half_a_period_apart_serve_every_tick(tmp_path):
    stream = [each for each in sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)]
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *arm_node_commands(TICKS)]))
    left, right = episode.age_ns("image_left"), episode.age_ns("image_right")
    assert len(episode) == TICKS
    assert (left >= 0).all()
    assert (right >= 30 * MS).all(), "latency is taken off the stamp"
    assert len(np.unique(episode.frame_index["image_left"])) > TICKS // 2


def test_a_late_message_is_not_seen_before_it_arrived(tmp_path):
    stream = [each for each in sensors(TICKS, np.random.default_rng(0)) if each.topic != "/left/image_raw"]
    frames = [each for each in sensors(TICKS, np.random.default_rng(0)) if each.topic == "/left/image_raw"]
    late = in_order([each._replace(arrival_ns=each.arrival_ns + 60 * MS) for each in frames])
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *late, *arm_node_commands(TICKS)]))
    assert (episode.age_ns("image_left") >= 60 * MS).all()
    assert_same_observations(
        episode,
        live(
            sorted([*stream, *late], key=lambda each: each.arrival_ns), [START_NS + t * TICK_NS for t in range(TICKS)]
        ),
    )


def test_a_tick_that_no_live_session_could_have_seen_is_left_out(tmp_path):
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    gap = (START_NS + 20 * TICK_NS, START_NS + 30 * TICK_NS)
    frozen = [e for e in stream if e.topic != "/left/image_raw" or not gap[0] <= e.arrival_ns < gap[1]]
    report = ImportReport()
    [episode] = imported(write_bag(tmp_path / "bag", [*frozen, *arm_node_commands(TICKS)]), report=report)
    assert 7 <= report.stale_ticks <= 10
    assert len(episode) == TICKS - report.stale_ticks
    assert "image_left is" in report.stale_because


def test_actions_are_what_was_commanded_and_what_the_arm_said_it_did(tmp_path):
    path = write_bag(tmp_path / "bag", [*sensors(TICKS, np.random.default_rng(0)), *arm_node_commands(TICKS, seed=7)])
    [episode] = imported(path, facts=Facts("pick", "anna", Outcome.FAILURE))
    ticks = (episode.stamps_ns - START_NS) // TICK_NS
    rows = np.array([row_at(tick) for tick in ticks], np.float32)
    np.testing.assert_array_equal(episode.requested, rows)
    np.testing.assert_array_equal(episode.applied, np.minimum(rows, np.float32(0.5)))
    np.testing.assert_array_equal(episode.filter_reasons, np.where((rows > 0.5).any(axis=1), 1024, 0))
    assert (episode.source == Source.OPERATOR).all()
    assert (episode.header.task, episode.header.operator, episode.header.seed) == ("pick", "anna", 7)
    assert (episode.result.outcome, episode.result.terminated) == (Outcome.FAILURE, True)
    assert episode.header.started_at.startswith("2023-11-14T22:13:20")


def test_a_command_that_nobody_acknowledged_held_the_arm_still(tmp_path):
    commands = arm_node_commands(TICKS)
    lost = START_NS + 10 * TICK_NS + 3 * MS
    kept = [each for each in commands if each.topic != "/arm/applied" or each.arrival_ns != lost]
    report = ImportReport()
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *kept]), report=report)
    assert report.unacknowledged == 1
    tick = int(np.flatnonzero(episode.stamps_ns == START_NS + 10 * TICK_NS)[0])
    np.testing.assert_array_equal(episode.applied[tick], episode.applied[tick - 1])


def test_without_acknowledgements_what_was_commanded_counts_as_done(tmp_path):
    commands = [each for each in arm_node_commands(TICKS) if each.topic == "/arm/command"]
    [episode] = imported(write_bag(tmp_path / "bag", [*sensors(TICKS, np.random.default_rng(0)), *commands]))
    np.testing.assert_array_equal(episode.applied, episode.requested)


def test_a_judge_in_the_bag_labels_and_rewards(tmp_path):
    judged = [
        Sent(
            START_NS + tick * TICK_NS + 3 * MS,
            "/arm/judgement",
            joint_state(START_NS + tick * TICK_NS, ("done", "reward", "success"), (tick == 59, tick / 10, tick > 50)),
        )
        for tick in range(TICKS)
    ]
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(
        write_bag(tmp_path / "bag", [*stream, *arm_node_commands(TICKS), *judged]),
        facts=Facts("pick", outcome=Outcome.FAILURE),
    )
    np.testing.assert_allclose(episode.reward, (episode.stamps_ns - START_NS) / TICK_NS / 10, rtol=1e-6)
    assert episode.result.outcome is Outcome.SUCCESS
    assert episode.result.reward_max == pytest.approx(5.9)


def test_resets_gaps_and_a_topic_of_choice_split_a_bag(tmp_path):
    stream = sensors(TICKS * 2, np.random.default_rng(0), jitter_ms=0.0)
    resets = [*arm_node_commands(20, seed=3), *arm_node_commands(20, first=40, seed=4)]
    by_reset = imported(write_bag(tmp_path / "reset", [*stream, *resets]))
    assert [episode.header.seed for episode in by_reset] == [3, 4]
    assert [len(episode) for episode in by_reset] == [20, 20]

    plain = [each for each in resets if each.topic != "/arm/reset"]
    report = ImportReport()
    [whole] = imported(write_bag(tmp_path / "plain", [*stream, *plain]), report=report)
    assert len(whole) == 40
    assert report.longest_gap_s == pytest.approx(21 * 0.05)
    assert [len(each) for each in imported(tmp_path / "plain", gap_s=0.5)] == [20, 20]

    at_ns = START_NS + 10 * TICK_NS - MS
    marked = [*stream, *plain, Sent(at_ns, "/arm/episode", header(at_ns))]
    pieces = imported(write_bag(tmp_path / "marked", marked), split_topic="episode")
    assert [len(each) for each in pieces] == [10, 30]


def test_in_lockstep_a_tick_sees_what_was_stamped_before_its_command_whenever_it_arrived(tmp_path):
    section = robot(lockstep=True)
    section["streams"] = {"joint_position": section["streams"]["joint_position"]}
    generator = np.random.default_rng(0)
    sent, stamp_ns = [], START_NS
    for tick in range(10):
        # Steps of a simulator take as long as they take, and its streams may reach the recorder after the next command.
        sent.append(Sent(stamp_ns + 40 * MS, "/arm/joint_states", joint_state(stamp_ns, JOINTS, (tick, 0.0))))
        stamp_ns += round(generator.uniform(5, 400) * MS)
        sent.append(Sent(stamp_ns, "/arm/command", trajectory(stamp_ns, JOINTS, (tick, 1.0))))
    [episode] = imported(write_bag(tmp_path / "bag", sent), section, codecs={})
    np.testing.assert_array_equal(episode.per_tick("joint_position")[:, 0], np.arange(10))
    np.testing.assert_array_equal(np.diff(episode.stamps_ns), TICK_NS)
    assert (episode.age_ns("joint_position") == 0).all()


def vendor_ticks(rate_hz, seconds):
    return [START_NS + round(index * S / rate_hz) for index in range(round(seconds * rate_hz))]


@pytest.mark.parametrize("rate_hz", [20.0, 100.0])
def test_joint_commands_of_any_rate_become_one_action_per_tick(rate_hz, tmp_path):
    section = robot("joint_forward", topic="/forward/commands", joints=["elbow", "shoulder"])
    generator = np.random.default_rng(0)
    sent = [
        Sent(at + round(generator.uniform(-8, 8) * MS), "/forward/commands", numbers((at - START_NS) / S, -0.5))
        for at in vendor_ticks(rate_hz, 2.0)
    ]
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *sent]), section)
    spacing = np.diff(episode.stamps_ns)
    assert set(spacing.tolist()) == {TICK_NS}
    np.testing.assert_array_equal(episode.requested[:, 0], np.float32(-0.5))
    wanted = (episode.stamps_ns - START_NS) / S
    assert np.abs(episode.requested[:, 1] - wanted).max() <= 0.05


def test_trajectories_are_read_by_joint_name(tmp_path):
    section = robot("joint_trajectory", topic="/controller/joint_trajectory", horizon_s=0.1)
    sent = [
        Sent(at, "/controller/joint_trajectory", trajectory(0, ("elbow", "shoulder"), (9.0, 9.0), (1.0, 2.0)))
        for at in vendor_ticks(20.0, 2.0)
    ]
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *sent]), section)
    np.testing.assert_array_equal(episode.requested, np.tile(np.float32([2.0, 1.0]), (len(episode), 1)))


def cartesian(adapter, **command):
    section = robot(adapter, **command)
    names = ["x", "y", "z", "rx", "ry", "rz", "gripper"]
    section["action"] = {
        "names": names,
        "unit": ["m", "m", "m", "rad", "rad", "rad", "1"],
        "kinds": ["rate"] * 6 + ["binary"],
        "low": [-0.1] * 6 + [0.0],
        "high": [0.1] * 6 + [1.0],
    }
    section["gripper"] = {"kind": "float64_array", "action": "gripper", "topic": "/hand", "open": 0.08, "closed": 0.0}
    return section


def test_target_poses_become_displacements_and_gripper_positions_actions(tmp_path):
    section = cartesian("cartesian_pose", topic="/target_pose", pose_stream="tool_pose", leash_m=0.1, leash_rad=0.5)
    sent = [
        Sent(at, "/target_pose", pose(at, (0.001 * index, 0.0, 0.5), 0.02 * index))
        for index, at in enumerate(vendor_ticks(20.0, 2.0))
    ]
    sent.append(Sent(START_NS + 10 * TICK_NS, "/hand", numbers(0.0)))
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *sent]), section, start={"gripper": 0.0})
    np.testing.assert_allclose(episode.requested[1:, 0], 0.001, atol=1e-7)
    np.testing.assert_allclose(episode.requested[1:, 5], 0.02, atol=1e-6)
    np.testing.assert_array_equal(episode.requested[:, 6], np.arange(len(episode)) >= 10)


def test_twists_become_displacements_and_cease_to_be_when_commands_cease(tmp_path):
    section = cartesian("servo_twist", topic="/servo/delta_twist_cmds", rate_hz=100.0)
    del section["gripper"]
    section["action"] = {key: value[:6] for key, value in section["action"].items()}
    stamps = [at for at in vendor_ticks(100.0, 2.0) if not S // 2 <= at - START_NS < S]
    sent = [Sent(at, "/servo/delta_twist_cmds", twist(at, (0.2, 0.0, 0.0), (0.0, 0.0, 1.0))) for at in stamps]
    stream = sensors(TICKS, np.random.default_rng(0), jitter_ms=0.0)
    [episode] = imported(write_bag(tmp_path / "bag", [*stream, *sent]), section)
    moving = episode.requested[:, 0] != 0.0
    assert moving[:10].all()
    assert not moving[12:19].any()
    assert moving[21:].all()
    np.testing.assert_allclose(episode.requested[moving][:, [0, 5]], [[0.01, 0.05]] * int(moving.sum()), rtol=1e-6)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_of_another_clock_is_refused_and_read_by_its_stamps(storage, tmp_path):
    hour = 3600 * S
    sent = [each._replace(arrival_ns=each.arrival_ns + hour) for each in sensors(TICKS, np.random.default_rng(0))]
    commands = [each._replace(arrival_ns=each.arrival_ns + hour) for each in arm_node_commands(TICKS)]
    path = write_bag(tmp_path / "bag", [*sent, *commands], storage)
    with pytest.raises(BagError, match=r"stamped 3600\.0 s before it was recorded.*--clock stamp"):
        imported(path)
    [episode] = imported(path, clock="stamp")
    prompt = sorted(
        [each._replace(arrival_ns=stamp_of(each.message)) for each in sent], key=lambda each: each.arrival_ns
    )
    assert_same_observations(episode, live(prompt, [START_NS + tick * TICK_NS for tick in range(TICKS)]))


def test_unstamped_commands_have_no_place_on_the_stamps_clock(tmp_path):
    section = robot("joint_forward", topic="/forward/commands")
    sent = [Sent(START_NS, "/forward/commands", numbers(0.0, 0.0))]
    path = write_bag(tmp_path / "bag", [*sensors(5, np.random.default_rng(0)), *sent])
    with pytest.raises(BagError, match=r"/forward/commands is not stamped.*--clock arrival"):
        imported(path, section, clock="stamp")


def test_cameras_are_compressed_as_asked(tmp_path):
    path = write_bag(tmp_path / "bag", [*sensors(5, np.random.default_rng(0), jitter_ms=0.0), *arm_node_commands(5)])
    with BagFile(path) as bag:
        layout = bag_layout(robot(), {}, bag.topics)
        options = BagSettings({"image_left": "jpeg:90", "image_right": "png"})
        [episode] = episodes_of(bag, layout, Facts("pick"), options, ImportReport())
    assert episode.streams["image_left"].codec == "jpeg:90"
    assert episode.streams["image_right"].codec == "png"
    assert dataclasses.asdict(episode.episode.header)["software_version"] == "ros 2 bag"
