import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.simulated.pusht_pusher import PushTPusher
from hardware.operators.simulated.scripted import SKILLS, ImperfectSkill, ScriptedOperator, scripted_operator
from hardware.sim.metaworld import MetaWorldRobot
from hardware.sim.pusht import PushTRobot
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError

HAND = np.array([0.0, 0.6, 0.2, 1.0], np.float32)
SCENE = np.zeros(35, np.float32)
ARM = MetaWorldRobot().spec
SEEN = Observation(0, {"state": HAND, "environment_state": SCENE}, {"state": 0, "environment_state": 0})


def asked(operator, seed, ticks=50, seen=SEEN):
    """Actions that an operator asks for when nothing moves. Shape (ticks, A)."""
    operator.reset(seed)
    return np.stack([operator.poll(seen).action for _ in range(ticks)])


def ticks_to_success(robot, operator, seed, limit):
    robot.reset(seed)
    operator.reset(seed)
    for tick in range(limit):
        robot.apply(operator.poll(robot.observe(tick)).action)
        if robot.judge().done:
            return tick + 1
    return None


def test_a_clean_expert_does_what_its_script_says():
    robot, operator = MetaWorldRobot("drawer-open-v3"), ScriptedOperator("drawer-open-v3", "clean")
    assert ticks_to_success(robot, operator, seed=1, limit=150)


def test_the_default_skill_fails_or_is_clumsy_about_half_the_time():
    """On peg-insert-side: clumsy is slower than one and a half times the clean script's median of 94 ticks."""
    robot, operator = MetaWorldRobot(), ScriptedOperator()
    durations = [ticks_to_success(robot, operator, seed, limit=250) for seed in range(20)]
    good = sum(ticks is not None and ticks <= 141 for ticks in durations)
    assert 4 <= good <= 16
    assert 6 <= sum(ticks is not None for ticks in durations) <= 18


def test_a_clumsier_skill_asks_for_rougher_motion():
    jerky = {
        name: np.diff(asked(ScriptedOperator(skill=skill), 0, ticks=500)[:, :3], axis=0).std()
        for name, skill in {**SKILLS, "still": ImperfectSkill(gain=0.0)}.items()
    }
    assert jerky["clumsy"] > jerky["mild"] > jerky["clean"] == jerky["still"]


@pytest.mark.parametrize("skill", SKILLS)
def test_the_same_seed_gives_the_same_imperfections(skill):
    operator = ScriptedOperator(skill=skill)
    first = asked(operator, 3)
    asked(operator, 4)
    assert np.array_equal(first, asked(operator, 3))


def test_another_seed_gives_another_drift():
    operator = ScriptedOperator(skill=ImperfectSkill(gain=0.0, bias_sigma=0.1))
    drifts = np.array([asked(operator, seed, ticks=3) for seed in range(200)])
    assert np.array_equal(drifts[:, 0], drifts[:, 2]), "the drift lasts the whole episode"
    assert drifts[:, 0, :3].std() == pytest.approx(0.1, rel=0.15)
    assert drifts[:, 0, :3].mean() == pytest.approx(0.0, abs=0.02)


def test_trembling_has_the_deviation_and_memory_it_was_given():
    operator = ScriptedOperator(skill=ImperfectSkill(gain=0.0, noise_sigma=0.2, noise_rho=0.8))
    trembling = asked(operator, 0, ticks=20_000)[:, 0]
    assert trembling.std() == pytest.approx(0.2, rel=0.1)
    assert np.corrcoef(trembling[1:], trembling[:-1])[0, 1] == pytest.approx(0.8, abs=0.02)


def test_a_hesitating_hand_rests_and_the_gripper_keeps_its_effort():
    always = ImperfectSkill(noise_sigma=0.3, bias_sigma=0.3, pause_probability=1.0, pause_ticks=5)
    assert not asked(ScriptedOperator(skill=always), 0)[:, :3].any()
    sometimes = dataclasses.replace(always, pause_probability=0.05)
    actions = asked(ScriptedOperator(skill=sometimes), 0, ticks=400)
    resting = ~actions[:, :3].any(axis=1)
    assert 0.05 < resting.mean() < 0.5
    assert np.ptp(actions[np.flatnonzero(~resting)[0] :, 3]) == 0.0


@given(
    st.builds(
        ImperfectSkill,
        gain=st.floats(0, 3),
        noise_sigma=st.floats(0, 2),
        noise_rho=st.floats(0, 0.99),
        bias_sigma=st.floats(0, 2),
        pause_probability=st.floats(0, 1),
        pause_ticks=st.integers(1, 50),
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=30, deadline=None)
def test_whatever_the_skill_it_never_asks_for_more_than_the_robot_can(skill, seed):
    low, high = ARM.action.bounds()
    for action in asked(ScriptedOperator(skill=skill), seed, ticks=20):
        assert ARM.action.problem_with(action) is None
        assert (low <= action).all()
        assert (action <= high).all()


def test_it_reads_nothing_but_the_observation():
    robot, operator = MetaWorldRobot("push-v3"), ScriptedOperator("push-v3")
    robot.reset(5)
    seen = robot.observe(0)
    first = asked(operator, 5, ticks=1, seen=seen)
    robot.reset(6)
    assert np.array_equal(first, asked(operator, 5, ticks=1, seen=seen))


def test_a_skill_can_be_given_by_its_fields():
    assert ScriptedOperator(skill={"gain": 0.5, "pause_ticks": 3}).skill == ImperfectSkill(gain=0.5, pause_ticks=3)


@pytest.mark.parametrize(
    ("skill", "message"),
    [
        ("sober", "operator.skill is 'sober', wanted clean, mild, clumsy"),
        ({"noise": 1.0}, "operator.skill has no noise: its fields are gain, noise_sigma"),
        ({"noise_rho": 1.0}, "noise_rho is 1.0, wanted 0 or more and below 1"),
        ({"pause_probability": 2.0}, "pause_probability is 2.0, wanted 0 to 1"),
        ({"noise_sigma": -1.0}, "noise_sigma and bias_sigma must be 0 or more"),
        ({"pause_ticks": 0}, "pause_ticks 1 or more"),
    ],
)
def test_an_impossible_skill_is_refused_by_name(skill, message):
    with pytest.raises(RobotRLError, match=message):
        ScriptedOperator(skill=skill)


def test_an_unknown_task_names_close_matches():
    with pytest.raises(RobotRLError, match=r"did you mean .*hammer-v3"):
        ScriptedOperator("hamer")


def test_a_robot_without_the_streams_that_the_script_reads_is_refused():
    robot, operator = PushTRobot(), ScriptedOperator()
    robot.reset(0)
    operator.reset(0)
    with pytest.raises(RobotRLError, match="needs the stream 'environment_state', robot has state"):
        operator.poll(robot.observe(0))


def test_polling_before_a_reset_is_refused():
    with pytest.raises(RobotRLError, match="call reset"):
        ScriptedOperator().poll(SEEN)


def test_each_simulated_robot_gets_its_own_script():
    pusher = PushTRobot().spec
    with scripted_operator(ARM, "hammer-v3", "clumsy") as operator:
        assert operator.name == "scripted:clumsy"
    assert scripted_operator(ARM, "hammer-v3").name == "scripted:mild"
    assert isinstance(scripted_operator(pusher, "pusht"), PushTPusher)
    with pytest.raises(RobotRLError, match="Push-T's scripted pusher has no skills"):
        scripted_operator(pusher, "pusht", "mild")
    with pytest.raises(RobotRLError, match=r"no script drives robot 'ur5'.*operator=keyboard"):
        scripted_operator(dataclasses.replace(ARM, name="ur5"), "pick")


def test_the_rough_pusher_brings_the_block_nearer_to_its_outline():
    robot, operator = PushTRobot(), PushTPusher()
    best = []
    for seed in range(6):
        robot.reset(seed)
        operator.reset(seed)
        rewards = []
        for tick in range(200):
            robot.apply(operator.poll(robot.observe(tick)).action)
            rewards.append(robot.judge().reward)
            if robot.judge().done:
                break
        best.append((rewards[0], max(rewards)))
    first, largest = np.mean(best, axis=0)
    assert largest > first + 0.2


def test_the_rough_pusher_names_the_stream_it_needs():
    with pytest.raises(RobotRLError, match=r"needs Push-T's stream 'state' of shape \(5,\)"):
        PushTPusher().poll(SEEN)
