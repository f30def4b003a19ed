"""A robot written by the README's recipe, outside the repository, runs at its own rate under every command.

An undeclared attribute used to decide it: `eval` drove such an arm 400 times faster than its limit.
"""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data.archive.store import DatasetStore
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from robot_rl.cli import main
from robot_rl.commands.collect import CollectSettings
from robot_rl.config.settings import load
from robot_rl.core.errors import RobotRLError
from robot_rl.run.checkpoint import save_checkpoint
from robot_rl.sessions.live import scene_for
from robot_rl.sessions.parallel import CollectingFailed, EpisodeCollector

SOURCE = Path(__file__).with_name("newcomers_arm.py")
HZ, SPEED, LAG_S = 20.0, 1.0, 0.05
ROBOT = f"""# @package _global_
robot: {{_target_: my_arm.MyArm, control_hz: {HZ}, lag_s: {LAG_S}}}
limits:
  low: [-3.0, -3.0]               # rad
  high: [3.0, 3.0]
  max_step: [0.05, 0.05]
  max_velocity: [{SPEED}, {SPEED}]        # rad/s
  max_acceleration: [10.0, 10.0]
  max_jerk: [200.0, 200.0]
  measured:
    shoulder: {{stream: joint_position, index: 0}}
    elbow: {{stream: joint_position, index: 1}}
  max_age_s: {{joint_position: 0.1}}
  ramp_after_s: 0.3
  fault_after_s: 1.0
  following: {{lag_s: {LAG_S}, wait: {SPEED * LAG_S}, fault: 0.5}}
task: {{name: wave, max_ticks: 30}}
"""
HAND = """# @package _global_
operator: {{_target_: my_arm.Hand, first: {0}, last: {1}, end: {2}}}
"""
END = 20


@pytest.fixture
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """A directory of the newcomer's: `my_arm.py` and `configs`, found as the README says."""
    shutil.copy(SOURCE, tmp_path / "my_arm.py")
    for name, text in {
        "robot/my_arm.yaml": ROBOT,
        "operator/my_hand.yaml": HAND.format(0, END, END),
        "operator/my_correction.yaml": HAND.format(6, 12, END),
    }.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("ROBOT_RL_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_arm", None)
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("my_arm", None)


def robot_rl(*words: object) -> None:
    """The command itself."""
    assert main([str(each) for each in words]) == 0


def told() -> list:
    """What the arm remembers of being told, by episode."""
    stretches = itertools.groupby(importlib.import_module("my_arm").TOLD, lambda each: each.stops)
    return [list(stretch) for _, stretch in stretches]


def assert_kept_its_rate_and_limits(least_episodes: int) -> None:
    """From the arm's own memory: commands, and itself, were never faster than the yaml says.

    Up to one tick's worth more, since a late tick may be followed by one that is on time.
    """
    episodes = [each for each in told() if len(each) > 2]
    assert len(episodes) >= least_episodes
    for episode in episodes:
        at_s = np.array([each.at_s for each in episode])
        passed_s = at_s[None] - at_s[:, None]
        later = passed_s > 0
        ticks = np.arange(len(at_s))
        assert (((ticks[None] - ticks[:, None]) <= 1.05 * HZ * passed_s + 1) | ~later).all(), "faster than its rate"
        for name in ("command", "position"):
            places = np.stack([getattr(each, name) for each in episode])
            moved = np.abs(places[None] - places[:, None]).max(axis=2)
            assert ((moved <= 1.05 * SPEED * (passed_s + 1 / HZ)) | ~later).all(), f"{name} faster than its limit"
    spans = [episode[-1].at_s - episode[0].at_s for episode in episodes]
    assert max(spans) > 0.5, "it ran in real time"


@pytest.fixture
def policy(place) -> Path:
    """A small policy that waves wildly: untrained, with the arm's whole range."""
    spec = importlib.import_module("my_arm").MyArm(control_hz=HZ, lag_s=LAG_S).spec
    torch.manual_seed(0)
    config = DiffusionPolicyConfig(
        streams=("joint_position",),
        observation_count=1,
        horizon=4,
        execute_horizon=2,
        sampling_steps=4,
        mlp=MlpConfig(width=32, blocks=1, time_features=8),
    )
    policy = DiffusionPolicy(spec, config)
    policy.set_statistics(
        {name: {"min": -np.full(2, 3.0), "max": np.full(2, 3.0)} for name in ("joint_position", "action")}
    )
    record = {
        "class": "policies.diffusion.DiffusionPolicy",
        "config": config.to_json(),
        "spec": spec.to_json(),
        "provenance": {},
    }
    save_checkpoint(place / "start", 1, policy, {}, record)
    return place / "start"


def test_collect_and_replay_drive_it_in_real_time(place):
    robot_rl("collect", f"dataset={place / 'data'}", "robot=my_arm", "operator=my_hand", "episodes=2")
    robot_rl("collect", f"dataset={place / 'data'}", "robot=my_arm", f"replay={place / 'data'}#0")
    assert_kept_its_rate_and_limits(3)
    with DatasetStore.open(str(place / "data")) as store:
        stamps_ns = store.read(store.episode_ids()[0]).stamps_ns
    assert np.diff(stamps_ns).min() >= 1e9 / HZ


def test_eval_drives_it_in_real_time(place, policy):
    robot_rl("eval", f"policy={policy}", "robot=my_arm", "episodes=2", "video_episodes=0", f"output={place / 'eval'}")
    assert_kept_its_rate_and_limits(2)
    assert json.loads((place / "eval/eval.json").read_text())["clock"] == "real time"


def test_deploy_drives_it_in_real_time(place, policy):
    robot_rl(
        "deploy",
        f"policy={policy}",
        "robot=my_arm",
        "operator=my_correction",
        "episodes=2",
        f"dataset={place / 'data'}",
    )
    assert_kept_its_rate_and_limits(2)


def test_finetune_drives_it_in_real_time(place, policy):
    learning = {"iterations": 1, "episodes_per_iteration": 2, "tracker": "none"}
    online = {"warmup_iterations": 0, "sampling_steps": 4, "imitation_batch_size": 8, "ppo.epochs": 1}
    online |= {"ppo.batch_size": 8, "value.width": 16, "value.epochs": 1}
    words = [f"{name}={value}" for name, value in learning.items()]
    words += [f"online.{name}={value}" for name, value in online.items()]
    common = (f"policy={policy}", f"run={place / 'run'}", "robot=my_arm", "operator=my_correction")
    robot_rl("finetune", *common, *words)
    assert_kept_its_rate_and_limits(2)


def test_it_is_in_one_process_and_in_real_time_whatever_the_user_says(place, policy, capsys):
    def refused(*words: object) -> str:
        assert main([str(each) for each in words]) == 2
        return capsys.readouterr().err

    moving = r"robot 'my_arm' moves by itself (it declares no simulated_time)"
    dataset = f"dataset={place / 'data'}"
    said = refused("collect", dataset, "robot=my_arm", "operator=my_hand", "realtime=false")
    assert f"realtime=false, but {moving}: leave realtime out" in said
    said = refused("eval", f"policy={policy}", "robot=my_arm", "workers=2")
    assert f"workers=2, but {moving} and is there only once: workers=1" in said
    common = (f"policy={policy}", f"run={place / 'run'}", "robot=my_arm", "operator=my_correction")
    assert moving in refused("finetune", *common, "realtime=false")
    assert "workers is 2, but in real time there is one robot" in refused("finetune", *common, "workers=2")
    settings = load(CollectSettings, "collect", [dataset, "robot=my_arm", "operator=my_correction"])
    assert scene_for(settings, None, 1).realtime
    with pytest.raises(CollectingFailed, match="is there only once"), EpisodeCollector(settings, workers=2):
        pass
    assert not told()
    assert not (place / "data").exists()


def test_the_contract_check_asks_for_its_clock_and_catches_a_false_declaration(place):
    from hardware.contract import check_robot
    from robot_rl.core.clock import HostClock

    kind = importlib.import_module("my_arm").MyArm
    lying = type("Lying", (kind,), {"simulated_time": True})

    def make(of=kind):
        return of(control_hz=HZ, lag_s=LAG_S)

    assert check_robot(make, ticks=4, clock=HostClock(), repeatable=False) == []
    assert "declares no simulated_time" in check_robot(make)[0]
    assert "simulated_time is declared, but" in check_robot(lambda: make(lying))[0]


def test_the_doctor_says_how_to_check_it(place):
    from robot_rl.commands.doctor import main as doctor

    assert doctor.PROBES["robot"]("my_arm", "no")["driven"] is False
    assert doctor.PROBES["robot"]("my_arm", "yes")["violations"] == []


def test_no_command_can_run_it_in_simulated_time(place):
    """Not even one that is still to be written: the loop itself refuses."""
    from tests.robot_rl.rollout_fakes import BrakingFilter, TimelineOperator, run

    arm = importlib.import_module("my_arm").MyArm(control_hz=HZ, lag_s=LAG_S)
    with pytest.raises(RobotRLError, match=r"robot 'my_arm' declares no simulated_time.*run it in real time"):
        run(robot=arm, operator=TimelineOperator(), judge=None, command_filter=BrakingFilter())
    assert not told()
