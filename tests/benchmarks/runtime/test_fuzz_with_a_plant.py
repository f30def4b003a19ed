"""The fuzzes of benchmarks/ catch what they are there to catch."""

import numpy as np
import pytest

from benchmarks.runtime.fuzz_checks import LimitCheck
from benchmarks.runtime.fuzz_draws import Tool, random_limits
from benchmarks.runtime.fuzz_plant import Plant, with_following
from benchmarks.runtime.fuzz_run import FuzzCount
from benchmarks.runtime.stream_fuzz import fuzz_round
from hardware.safety.following import Follower
from robot_rl.core.specs import ActionKind


def caught(rounds=12):
    return [words for seed in range(rounds) for words in fuzz_round(seed, FuzzCount())]


def test_a_command_that_does_not_wait_for_the_arm_is_caught(monkeypatch):
    monkeypatch.setattr(Follower, "check", lambda self, before, result, *_: result)
    assert any(words.startswith("arm: dimension") for words in caught())


def test_a_command_that_goes_back_to_the_arm_too_fast_is_caught(monkeypatch):
    check = Follower.check

    def doubled(self, before, result, *rest):
        made = check(self, before, result, *rest)
        place = self._limits.spec.kind_mask(ActionKind.POSITION)
        return made._replace(applied=np.where(place, made.applied * 1.01, made.applied))

    monkeypatch.setattr(Follower, "check", doubled)
    assert any(words.startswith("step:") for words in caught())


@pytest.mark.parametrize("seed", range(5))
def test_many_outputs_are_judged_as_they_are_one_by_one(seed):
    generator = np.random.default_rng(seed)
    limits = random_limits(generator)
    pose = np.zeros(len(limits.low))
    outputs = np.cumsum(generator.normal(0, limits.max_step, (30, len(pose))), axis=0)
    one_by_one, at_once = LimitCheck(limits, pose), LimitCheck(limits, pose)
    single = [words for output in outputs for words in one_by_one(output)]
    assert [words for _, words in at_once.all(outputs)] == single


def plant(seed):
    generator = np.random.default_rng(seed)
    limits = random_limits(generator, measured_places=1.0)
    while ActionKind.POSITION not in limits.spec.action_kinds:
        limits = random_limits(generator, measured_places=1.0)
    limits = with_following(limits, limits.spec.control_hz, generator)
    limits.require_following(limits.spec.control_hz)
    pose = (np.array(limits.low) + limits.high) / 2
    return limits, Plant(limits, pose, generator, 200), pose


@pytest.mark.parametrize("seed", range(10))
def test_the_plant_comes_to_its_command_and_never_beyond(seed):
    limits, arm, pose = plant(seed)
    index = limits.spec.action_kinds.index(ActionKind.POSITION)
    command = pose.copy()
    command[index] = limits.high[index]
    path = [arm.shown(0)[index]]
    for tick in range(200):
        arm.move(tick, command)
        path.append(arm.shown(0)[index])
    assert (np.diff(path) >= 0).all()
    assert path[-1] <= limits.high[index]


def test_a_tool_shows_where_it_is_as_late_as_the_limits_say():
    seed = 0
    while True:
        limits = random_limits(np.random.default_rng(seed))
        boxes = {index: box for index, box in limits.measured.items() if box.lag_s > 0.0}
        if boxes:
            break
        seed += 1
    (index, box), *_ = boxes.items()
    tool, applied = Tool(limits), np.zeros(len(limits.low))
    applied[index] = 0.1 / box.scale
    late = round(box.lag_s * limits.spec.control_hz)
    for _ in range(late):
        tool.move(applied)
    assert tool.shown[index] == -0.5
    tool.move(applied)
    assert tool.shown[index] == pytest.approx(-0.4)
