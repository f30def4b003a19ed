import numpy as np
import pytest

from hardware.operators.simulated.replay import ReplayOperator
from hardware.operators.simulated.scripted import ScriptedOperator
from hardware.sim.metaworld import MetaWorldRobot
from robot_rl.core.episode import Observation, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorEvent

NOTHING = Observation(0, {}, {})


def drive(robot, operator, seed, limit=60):
    """States, requested and applied actions until the operator ends the episode or the limit is reached."""
    robot.reset(seed)
    operator.reset(seed)
    states, requested, applied = [], [], []
    for tick in range(limit):
        seen = robot.observe(tick)
        command = operator.poll(seen)
        if command.event is OperatorEvent.END:
            break
        states.append(np.concatenate([seen.values["state"], seen.values["environment_state"]]))
        requested.append(command.action)
        applied.append(robot.apply(command.action))
    return np.stack(states), np.stack(requested), np.stack(applied)


def test_a_replayed_episode_is_the_original_tick_for_tick():
    robot = MetaWorldRobot("hammer-v3")
    states, requested, applied = drive(robot, ScriptedOperator("hammer-v3", "clumsy"), seed=11)
    again = drive(MetaWorldRobot("hammer-v3"), ReplayOperator(requested), seed=11, limit=1000)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip((states, requested, applied), again, strict=True))


def test_it_ends_the_episode_after_the_last_action():
    operator = ReplayOperator(np.zeros((2, 3), np.float32), outcome=Outcome.SUCCESS)
    operator.reset(0)
    events = [operator.poll(NOTHING) for _ in range(4)]
    assert [each.event for each in events] == [OperatorEvent.NONE] * 2 + [OperatorEvent.END] * 2
    assert [each.outcome for each in events] == [None, None, Outcome.SUCCESS, Outcome.SUCCESS]


def test_a_reset_rewinds():
    with ReplayOperator([[1.0], [2.0]]) as operator:
        assert len(operator) == 2
        for _ in range(2):
            operator.reset(0)
            assert operator.poll(NOTHING).action == [1.0]


def test_what_was_handed_over_and_out_cannot_change_the_replay():
    actions = np.ones((2, 1))
    operator = ReplayOperator(actions)
    actions.fill(7)
    operator.poll(NOTHING).action.fill(7)
    operator.reset(0)
    assert operator.poll(NOTHING).action == [1.0]


@pytest.mark.parametrize("actions", [np.zeros((0, 2)), np.zeros(3)])
def test_an_episode_without_actions_is_refused(actions):
    with pytest.raises(RobotRLError, match="replay needs actions of shape"):
        ReplayOperator(actions)
