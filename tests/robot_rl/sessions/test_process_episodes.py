"""Episodes in the robot's own time where the robot moves by itself."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from rich.console import Console

from robot_rl.commands.collect import CollectSettings
from robot_rl.commands.evaluate import EvalSettings, evaluate
from robot_rl.config.settings import load
from robot_rl.core.episode import ActionChunk
from robot_rl.core.errors import RobotRLError
from robot_rl.sessions.parallel import ProcessEpisodes
from robot_rl.sessions.setup import SessionSettings
from tests.robot_rl.rollout_fakes import ListSink


class Still:
    """Holds every arm where it is seen to be, or asks for NaN."""

    observation_count, fingerprint = 1, "still"

    def __init__(self, spec, broken=False):
        self.spec, self.broken = spec, broken

    def reset(self, seed):
        pass

    def act(self, history):
        rows = np.repeat(history[-1].values["joint_position"][None], 40, axis=0)
        return ActionChunk(np.full_like(rows, np.nan) if self.broken else rows, history[-1].stamp_ns)


def settings(kind: type[SessionSettings], *words: str):
    """Of the simulated arm that moves by itself, in this process."""
    found = load(kind, "eval" if kind is EvalSettings else "collect", ["robot=ros/sim_joint", "operator=none", *words])
    found.robot, found.task.max_ticks = dict(found.arm["driver"]), 6
    return found


def test_a_robot_that_moves_by_itself_is_run_in_its_own_time():
    sink = ListSink()
    before_ns = time.monotonic_ns()
    with ProcessEpisodes(settings(CollectSettings, "dataset=d")) as episodes:
        episodes.run(Still(episodes.robot.spec), sink, 3)
    stamps = [step.observation.stamp_ns for step in sink.steps]
    assert len(stamps) == 6
    assert before_ns < stamps[0] < stamps[-1] <= time.monotonic_ns()


def test_a_fault_of_a_robot_that_moves_by_itself_ends_the_whole_session():
    with (
        ProcessEpisodes(settings(CollectSettings, "dataset=d", "rollout.policy_timeout_s=0.2")) as episodes,
        pytest.raises(RobotRLError, match="Look at the robot"),
    ):
        episodes.run(Still(episodes.robot.spec, broken=True), ListSink(), 3)


def test_one_real_arm_is_not_evaluated_by_several_processes(tmp_path, monkeypatch):
    asked = settings(EvalSettings, f"policy={tmp_path}", "workers=2")
    monkeypatch.setattr("robot_rl.commands.evaluate.load_acting_policy", lambda path, device: Still(_spec()))
    with pytest.raises(RobotRLError, match="there only once: workers=1"):
        evaluate(asked, Console(file=io.StringIO()))


def _spec():
    with ProcessEpisodes(settings(CollectSettings, "dataset=d")) as episodes:
        return episodes.robot.spec
