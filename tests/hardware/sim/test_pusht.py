import os

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from hardware.contract import check_robot
from hardware.sim.pusht import KEYPOINTS_IN_BLOCK, PushTRobot, block_keypoints, initial_state
from robot_rl.core.errors import RobotRLError, StaleSensor

ON_THE_OUTLINE = [50.0, 50.0, 256.0, 256.0, np.pi / 4]
FAR_AWAY = np.array([50.0, 50.0], np.float32)


@pytest.fixture(scope="module")
def human():
    """The published human demonstrations, where the machine has them."""
    source = os.environ.get("ROBOT_RL_PUSHT_ZARR")
    if not source:
        pytest.skip("set ROBOT_RL_PUSHT_ZARR to the human Push-T dataset to compare with it")
    return zarr.open_group(source, mode="r")


def test_it_keeps_the_robot_contract():
    assert check_robot(PushTRobot) == []


def test_with_its_picture_it_keeps_the_robot_contract():
    assert check_robot(lambda: PushTRobot(image=True), ticks=8) == []


def test_the_picture_is_part_of_the_spec_only_when_drawn():
    assert PushTRobot().spec.images == ()
    assert PushTRobot(image=True).spec.images == ("image",)


def test_it_starts_where_published_evaluations_start():
    state = initial_state(100_000)
    assert state[:4] == pytest.approx([235.0, 124.0, 335.0, 128.0])
    assert np.array_equal(state, initial_state(100_000))


def test_a_recorded_state_is_restored_exactly():
    robot = PushTRobot()
    robot.reset(0)
    state = np.array([100.0, 120.0, 300.5, 280.25, 1.25], np.float32)
    robot.reset_to(state)
    assert np.array_equal(robot.observe(0).values["state"], state)


def test_the_block_on_its_outline_is_success_with_full_reward():
    robot = PushTRobot()
    robot.reset_to(ON_THE_OUTLINE)
    robot.apply(FAR_AWAY)
    assert (robot.judge().reward, robot.judge().success, robot.judge().done) == (1.0, True, True)


def test_the_reward_is_the_covered_share_over_the_threshold():
    robot = PushTRobot()
    robot.reset_to([50.0, 50.0, 256.0, 426.0, np.pi / 4])
    robot.apply(FAR_AWAY)
    apart = robot.judge()
    robot.reset_to([50.0, 50.0, 256.0, 262.0, np.pi / 4])
    robot.apply(FAR_AWAY)
    near = robot.judge()
    assert apart.reward < near.reward < 1.0
    assert not near.done


def test_the_angle_stays_within_one_turn():
    robot = PushTRobot()
    robot.reset_to([50.0, 50.0, 256.0, 256.0, -0.5])
    assert robot.observe(0).values["state"][4] == pytest.approx(2 * np.pi - 0.5)


def test_contacts_are_counted_while_pushing():
    robot = PushTRobot()
    robot.reset_to([256.0, 200.0, 256.0, 256.0, 0.0])
    assert robot.observe(0).values["n_contacts"] == [0.0]
    for _ in range(5):
        robot.apply(np.array([256.0, 300.0], np.float32))
    assert robot.observe(1).values["n_contacts"] >= [1.0]


def test_a_target_outside_the_window_is_clipped_and_reported_so():
    robot = PushTRobot()
    robot.reset(0)
    assert np.array_equal(robot.apply(np.array([-5.0, 600.0], np.float32)), [0.0, 512.0])


def test_before_the_first_reset_there_is_nothing_to_see_or_move():
    with pytest.raises(StaleSensor, match="reset"):
        PushTRobot().observe(0)
    with pytest.raises(RobotRLError, match="reset"):
        PushTRobot().apply(FAR_AWAY)


@given(st.floats(0, 512), st.floats(0, 512), st.floats(-7, 7))
def test_keypoints_are_rigid_and_turn_with_the_block(x, y, angle):
    keypoints = block_keypoints(x, y, angle).astype(np.float64)
    apart = np.linalg.norm(KEYPOINTS_IN_BLOCK[:, None] - KEYPOINTS_IN_BLOCK, axis=-1)
    assert np.linalg.norm(keypoints[:, None] - keypoints, axis=-1) == pytest.approx(apart, abs=1e-3)
    turned = block_keypoints(x, y, angle + np.pi)
    assert keypoints + turned == pytest.approx(np.broadcast_to([2 * x, 2 * y], (9, 2)), abs=1e-3)


def test_the_picture_shows_pusher_block_and_outline_in_rgb():
    robot = PushTRobot(image=True)
    robot.reset_to([100.0, 400.0, 380.0, 120.0, 0.0])
    image = robot.observe(0).values["image"].astype(int)
    assert image.shape == (96, 96, 3)

    def at(x, y):
        return image[int(y * 96 / 512), int(x * 96 / 512)]

    assert at(100, 400)[2] > at(100, 400)[0] + 80, "the pusher is blue, at its x to the right and y downwards"
    assert at(256, 272)[1] > at(256, 272)[0] + 50, "the outline is green"
    assert np.ptp(at(380, 180)) < 50, "the block is grey"
    assert at(380, 180).mean() < 200
    assert (at(450, 450) == 255).all()


def test_human_keypoints_are_rebuilt_from_the_block_pose(human):
    state, keypoint = human["data/state"][:], human["data/keypoint"][:]
    rebuilt = np.array([block_keypoints(*pose) for pose in state[:, 2:].astype(np.float64)])
    error_px = np.abs(rebuilt - keypoint).max((1, 2))
    # In contact the recording's keypoints are up to 2 px ahead of its own block pose.
    free = human["data/n_contacts"][:, 0] == 0
    assert np.quantile(error_px[free], 0.999) < 0.01
    assert error_px.max() < 2.5


@pytest.mark.slow
def test_replayed_human_actions_give_the_recorded_states(human):
    state, action, ends = human["data/state"][:], human["data/action"][:], human["meta/episode_ends"][:]
    robot, worst_px, last_px = PushTRobot(), [], []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        robot.reset_to(state[start])
        errors_px = []
        for row in range(start, end - 1):
            robot.apply(action[row])
            errors_px.append(np.abs(robot.observe(0).values["state"] - state[row + 1])[:4].max())
        worst_px.append(max(errors_px))
        last_px.append(errors_px[-1])
    # An episode that begins in contact begins with a push that its first state does not show.
    in_contact = human["data/n_contacts"][:, 0][[0, *ends[:-1]]] > 0
    assert np.mean(np.array(worst_px)[~in_contact] < 0.01) > 0.95
    assert np.median(worst_px) < 1e-3
    assert max(last_px) < 1.0


def test_pictures_of_recorded_states_are_those_of_the_recording(human):
    robot = PushTRobot(image=True)
    for row in range(0, 25_000, 1_000):
        robot.reset_to(human["data/state"][row])
        mine, theirs = robot.observe(0).values["image"].astype(float), human["data/img"][row]
        assert np.abs(mine - theirs).mean() < 0.25
