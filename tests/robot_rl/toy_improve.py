"""A tiny world for `robot-rl improve`: reach with a clumsy operator, an imitation of it, settings of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data.archive.store import DatasetStore
from policies.exploring_policy import ExploringPolicy
from robot_rl.commands.evaluate import EvaluationSettings
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.commands.train.main import train
from robot_rl.commands.train.plan import TrainSettings
from robot_rl.core.protocols import Judgement, OperatorCommand
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.learning.offline.critic import CriticConfig
from robot_rl.learning.offline.gate import GateConfig
from robot_rl.learning.offline.improver import OfflineConfig
from robot_rl.learning.offline.off_policy_evaluation import FittedQConfig
from robot_rl.learning.offline.transition_model import DynamicsConfig
from robot_rl.run.training_loop import LogSettings
from robot_rl.runtime.meeting import RolloutSettings
from robot_rl.sessions.parallel import EpisodeCollector
from robot_rl.sessions.setup import SessionSettings, TaskSettings
from tests.robot_rl.toy_reach import LIMITS, ReachRobot, reach_policy

MAX_TICKS = 12
POLICY = {
    "_target_": "policies.diffusion.DiffusionPolicy",
    "streams": ["state"],
    "observation_count": 1,
    "horizon": 4,
    "execute_horizon": 2,
    "sampling_steps": 4,
    "prediction": "sample",
    "mlp": {"width": 32, "blocks": 1, "time_features": 8},
}


class ClumsyOperator:
    """Drives to a place beside the goal, a different one in every episode.

    Args:
        miss_m: How far beside, on average.
    """

    name = "clumsy"

    def __init__(self, miss_m: float = 0.08) -> None:
        self.miss_m, self.offset, self.generator = miss_m, np.zeros(2), np.random.default_rng(0)

    def __enter__(self) -> ClumsyOperator:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass

    def reset(self, seed: int) -> None:
        self.generator = np.random.default_rng((seed, 1))
        self.offset = self.generator.normal(0, self.miss_m, 2)

    def poll(self, observation: Any) -> OperatorCommand:
        state = observation.values["state"]
        way = state[2:] + self.offset - state[:2] + self.generator.normal(0, 0.02, 2)
        return OperatorCommand(action=np.clip(way, -0.1, 0.1).astype(np.float32))


class HopelessRobot(ReachRobot):
    """Never satisfied."""

    def judge(self) -> Judgement:
        return Judgement(0.0, False, False)


def session(operator: dict[str, Any], max_ticks: int = MAX_TICKS) -> dict[str, Any]:
    return {
        "robot": {"_target_": "tests.robot_rl.toy_reach.ReachRobot"},
        "limits": dict(LIMITS),
        "operator": operator,
        "task": TaskSettings("reach", max_ticks),
        "rollout": RolloutSettings(),
    }


def demonstrations(
    place: Path, episodes: int, miss_m: float = 0.08, max_ticks: int = MAX_TICKS, robot: dict[str, Any] | None = None
) -> str:
    """Returns the dataset's address."""
    operator = {"_target_": "tests.robot_rl.toy_improve.ClumsyOperator", "miss_m": miss_m}
    values = session(operator, max_ticks)
    settings = SessionSettings(**{**values, "robot": robot or values["robot"]})
    policy = ExploringPolicy(reach_policy().with_exploration(4, 0.05, 0.5))
    with EpisodeCollector(settings) as collector, DatasetStore.create(str(place), collector.spec) as store:
        for collected in collector.collect(policy, range(episodes)):
            store.append(collected.episode)
    return str(place)


def imitation_run(dataset: str, run: Path, steps: int = 150) -> str:
    """Returns the run's directory."""
    settings = TrainSettings(
        dataset=dataset,
        run=str(run),
        policy=POLICY,
        imitation=ImitationConfig(steps=steps, batch_size=64, warmup_steps=10, learning_rate=3e-3),
        log=LogSettings(tracker="none", sample_every=0),
        device="cpu",
    )
    settings.data.outcomes = ["success", "failure"]
    assert train(settings, quiet=True)
    return str(run)


def improve_settings(policy: str, dataset: str, run: Path, **more: Any) -> ImproveSettings:
    values: dict[str, Any] = {
        "rounds": 2,
        "rollouts": 8,
        "critic": CriticConfig(steps=60, batch_size=64, width=32),
        "dynamics": DynamicsConfig(members=2, elites=2, width=32, steps=60, batch_size=64),
        "gate": GateConfig(starts=32, chunks=4),
        "offline": OfflineConfig(batches=4, gate_every=2, sampling_steps=4, sigma_min=0.05, sigma_max=0.3),
        "imitation": ImitationConfig(steps=12, batch_size=32, warmup_steps=2, learning_rate=1e-3),
        "log": LogSettings(every=4, checkpoint_every=5, held_out_every=0, sample_every=0, tracker="none"),
        "evaluate": EvaluationSettings(episodes=4, film=0),
        "fitted_q": FittedQConfig(steps=20, batch_size=32, width=32),
        "device": "cpu",
        **session({"_target_": "tests.robot_rl.toy_reach.GuidingOperator"}),
        **more,
    }
    return ImproveSettings(policy=policy, dataset=dataset, run=str(run), **values)
