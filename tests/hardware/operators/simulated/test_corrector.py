"""The correcting operator: leaves a good run alone, takes over from a bad one after its delay, gives back."""

from __future__ import annotations

import numpy as np
import pytest

from hardware.operators.simulated.corrector import METAWORLD, Attention, Corrector, ExpertWatch, corrector
from hardware.operators.simulated.scripted import ScriptedOperator
from hardware.sim.metaworld import MetaWorldRobot
from hardware.sim.pusht import PushTRobot
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec

TASK = "peg-insert-side-v3"
ARM = MetaWorldRobot(TASK)
WINDOW = round(METAWORLD.window_s * ARM.spec.control_hz)
NEVER_LATE = {"late_s": None}


def watched(drive, seed, ticks=250, operator=None, robot=ARM):
    """Ticks at which the operator drove, and whether the task succeeded; `drive` acts otherwise."""
    operator = operator or corrector(robot.spec, TASK, attention=NEVER_LATE)
    robot.reset(seed)
    operator.reset(seed)
    taken = []
    for tick in range(ticks):
        seen = robot.observe(tick)
        command = operator.poll(seen)
        taken.append(command.action is not None)
        robot.apply(command.action if taken[-1] else drive(seen))
        if robot.judge().done:
            return np.array(taken), True
    return np.array(taken), False


def frozen(seen):
    return np.array([0, 0, 0, -1], np.float32)


def wrong_way(expert):
    """The expert's motion turned round."""

    def drive(seen):
        action = expert.poll(seen).action.copy()
        action[:3] *= -1
        return action

    return drive


def expert(seed):
    operator = ScriptedOperator(TASK, "clean")
    operator.reset(seed)
    return operator


def first(taken):
    return int(np.argmax(taken)) if taken.any() else None


def test_the_script_itself_is_left_alone():
    alarms = 0
    for seed in range(8):
        script = expert(seed)
        taken, succeeded = watched(lambda seen, script=script: script.poll(seen).action, seed)
        alarms += succeeded and bool(taken.any())
    assert alarms == 0


@pytest.mark.parametrize("kind", ["frozen", "wrong way"])
def test_a_run_that_goes_wrong_is_taken_over_after_the_reaction_and_not_before(kind):
    hz = ARM.spec.control_hz
    begins = []
    for seed in range(4):
        drive = frozen if kind == "frozen" else wrong_way(expert(seed))
        taken, _ = watched(drive, seed, ticks=200)
        assert taken.any()
        begins.append(first(taken))
    assert min(begins) >= WINDOW + METAWORLD.reaction_s[0] * hz - 1
    assert max(begins) <= WINDOW + METAWORLD.reaction_s[1] * hz + 1
    assert len(set(begins)) > 1, "reactions differ from episode to episode"


def test_control_is_given_back_after_a_while_and_taken_again_if_nothing_gets_better():
    taken, _ = watched(frozen, 1, ticks=480)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], taken.astype(int), [0]])))
    runs = edges.reshape(-1, 2)
    assert len(runs) >= 2
    hz, (shortest, longest) = ARM.spec.control_hz, METAWORLD.drive_s
    for begin, end in runs[:-1]:
        assert shortest * hz - 1 <= end - begin <= longest * hz + 1
    assert (runs[1:, 0] - runs[:-1, 1] >= WINDOW).all(), "progress is judged anew after giving back"


def test_without_a_drive_time_the_operator_finishes_the_episode():
    taken, succeeded = watched(frozen, 1, 400, corrector(ARM.spec, TASK, "clean", {"drive_s": None, "late_s": None}))
    assert taken[first(taken) :].all()
    assert succeeded


def test_a_late_episode_is_driven_to_its_end():
    script = expert(2)
    slow = lambda seen: script.poll(seen).action * np.array([0.35, 0.35, 0.35, 1.0], np.float32)  # noqa: E731
    taken, _ = watched(slow, 2, 230, corrector(ARM.spec, TASK, attention={"late_s": 1.5}))
    latest = round((1.5 + METAWORLD.reaction_s[1]) * ARM.spec.control_hz) + 1
    assert first(taken) <= latest
    assert taken[latest:].all()


def test_a_better_skill_saves_more_runs():
    saved = {}
    for skill in ("clean", {"gain": 0.4, "noise_sigma": 0.6}):
        operator = corrector(ARM.spec, TASK, skill, {"drive_s": None, "late_s": None})
        saved[str(skill)] = sum(watched(frozen, seed, 300, operator)[1] for seed in range(5))
    clean, poor = saved.values()
    assert clean > poor


def test_the_same_seed_gives_the_same_corrections():
    operator = corrector(ARM.spec, TASK)
    one, two, other = (watched(frozen, seed, 200, operator)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert len(one) != len(other) or (one != other).any()


def test_a_push_t_run_without_progress_is_taken_over():
    robot = PushTRobot()
    operator = corrector(robot.spec, "pusht")
    stays = lambda seen: seen.values["state"][:2].astype(np.float32)  # noqa: E731
    taken, _ = watched(stays, 0, ticks=120, operator=operator, robot=robot)
    assert 60 < first(taken) <= 80


def test_what_does_not_fit_is_refused():
    with pytest.raises(RobotRLError, match=r"no patience.*reaction_s"):
        corrector(ARM.spec, TASK, attention={"patience": 1})
    with pytest.raises(RobotRLError, match="shortest and the longest"):
        Attention(reaction_s=(0.5, 0.1))
    with pytest.raises(RobotRLError, match="pusher has no skills"):
        corrector(PushTRobot().spec, "pusht", "clean")
    spec = ARM.spec
    other = RobotSpec("arm", spec.observations, spec.action, spec.action_kinds, spec.control_hz)
    with pytest.raises(RobotRLError, match="operator=keyboard"):
        corrector(other, TASK)
    with pytest.raises(RobotRLError, match="call reset"):
        Corrector(ScriptedOperator(TASK), ExpertWatch(TASK, 10, 0.1), METAWORLD, 80.0).poll(None)
