"""What `robot-rl improve` is told, and what it refuses before anything begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from data.archive.store import DatasetStore
from robot_rl.commands.evaluate import EPISODES, EvaluationSettings
from robot_rl.commands.train.plan import DataSettings
from robot_rl.config.settings import MISSING
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import AT_LEAST_1, require_each
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.learning.offline.critic import CriticConfig
from robot_rl.learning.offline.gate import GateConfig
from robot_rl.learning.offline.improver import OfflineConfig
from robot_rl.learning.offline.off_policy_evaluation import FittedQConfig
from robot_rl.learning.offline.transition_model import DynamicsConfig
from robot_rl.learning.transitions import RewardConfig
from robot_rl.run.training_loop import LogSettings
from robot_rl.sessions.setup import SessionSettings

CONTROL_ARMS = ("own", "grown", "none")
AUTO = "auto"
DEVICES = ("auto", "cpu", "cuda")


@dataclass
class ImproveSettings(SessionSettings):
    """Settings of `robot-rl improve`.

    Attributes:
        policy: Run or checkpoint to improve.
        dataset: Demonstrations, good and bad; only read.
        run: Directory of this run; the same command again resumes it.
        snapshot: Snapshot id or tag of the dataset; null is its newest state.
        rounds: Rounds of offline RL, rollouts and re-imitation.
        rollouts: Episodes per round, added to the run's own dataset; in real time labelled ones.
        rollout_seed: Of the first of them.
        first_rollouts: Whether as many rollouts of the policy to improve come first, so that critic and model know what
            it does wrong; always so when all demonstrations are of one outcome.
        veto_level: An accepted update is taken back if the chance of as few successes as its rollouts had is less than
            this, by Fisher's exact test against the rollouts before it; 0 takes none back. High on purpose: giving up
            an update that changed nothing costs little, and at 0.05 one from 51 to 43 of 60 went through.
        realtime: Roll out at the robot's own rate, with somebody who may take over, label and stop; null is where a
            person operates or the robot moves by itself.
        recover: What to do with recordings that a crash in real time left behind: `ask`, `yes` or `no`.
        gate_reimitation: Whether the policy imitated again must pass the gate too; else it is taken as it is.
        control: Success-only re-imitation beside it, on the same number of episodes: `own` rollouts of its own policy,
            or the data as `grown` by the improved one; or `none`. `auto` is `own` in simulated time and `grown` in real
            time, where rollouts are a person's time.
        reward: See `RewardConfig`.
        critic: See `CriticConfig`.
        dynamics: See `DynamicsConfig`.
        gate: See `GateConfig`.
        offline: See `OfflineConfig`.
        imitation: Of re-imitation, see `ImitationConfig`; the encoder stays as it is, so that the critics remain valid.
        data: What is imitated again, see `DataSettings`.
        log: Of re-imitation, see `LogSettings`.
        evaluate: See `EvaluationSettings`; null episodes are 50 in simulated time and none in real time. No
            demonstration and no rollout may have one of their seeds.
        second_estimator: Whether fitted Q evaluation is reported beside every decision of the gate.
        fitted_q: See `FittedQConfig`.
        seed: Added to the seed of everything that learns.
        workers: Processes that run episodes.
        device: `auto`, `cpu` or `cuda`, for learning; rollouts are on the CPU.
    """

    policy: str = MISSING
    dataset: str = MISSING
    run: str = MISSING
    snapshot: str | None = None
    rounds: int = 2
    rollouts: int = 100
    rollout_seed: int = 500_000
    first_rollouts: bool = True
    veto_level: float = 0.25
    realtime: bool | None = None
    recover: str = "ask"
    gate_reimitation: bool = True
    control: str = AUTO
    reward: RewardConfig = field(default_factory=RewardConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    imitation: ImitationConfig = field(default_factory=lambda: ImitationConfig(steps=1000, warmup_steps=100))
    data: DataSettings = field(default_factory=DataSettings)
    log: LogSettings = field(default_factory=lambda: LogSettings(tracker="none", sample_every=0))
    evaluate: EvaluationSettings = field(default_factory=lambda: EvaluationSettings(episodes=None))
    second_estimator: bool = True
    fitted_q: FittedQConfig = field(default_factory=lambda: FittedQConfig(steps=500))
    seed: int = 0
    workers: int = 1
    device: str = "auto"

    def resolve(self, realtime: bool) -> ImproveSettings:
        """The plan: these settings with `realtime`, `control` and `evaluate.episodes` decided.

        Args:
            realtime: Whether rollouts run at the robot's own rate.

        Raises:
            RobotRLError: Names the setting that cannot work.
        """
        episodes = self.evaluate.episodes
        if episodes is None:
            episodes = 0 if realtime else EPISODES
        elif realtime and episodes > 0:
            raise RobotRLError(
                f"evaluate.episodes is {episodes}, but this run is in real time, where an evaluation "
                "needs a person for every episode: leave it out, then judge with robot-rl deploy policy=... dataset=..."
            )
        control = self.control if self.control != AUTO else "grown" if realtime else "own"
        plan = replace(self, realtime=realtime, control=control, evaluate=replace(self.evaluate, episodes=episodes))
        plan._validate()
        return plan

    def _validate(self) -> None:
        require_each(self, "", AT_LEAST_1, "rounds", "rollouts", "workers")
        for name, value, allowed in (("control", self.control, CONTROL_ARMS), ("device", self.device, DEVICES)):
            if value not in allowed:
                raise RobotRLError(f"{name} is '{value}', wanted one of {', '.join(allowed)}")
        if (self.evaluate.episodes or 0) < 0:
            raise RobotRLError(f"evaluate.episodes is {self.evaluate.episodes}, wanted 0 (none) or more")
        for each in (self.reward, self.critic, self.dynamics, self.gate, self.offline, self.imitation, self.fitted_q):
            each.validate()
        self.refuse_seen_seeds([*self.rollout_seeds(0, self.rounds + 1)], "rollout_seed")

    def rollout_seeds(self, first_round: int, last_round: int) -> range:
        """Seeds of the rollouts of some rounds; those that come before the first critic have a round after the last."""
        return range(
            self.rollout_seed + first_round * self.rollouts,
            self.rollout_seed + last_round * self.rollouts,
        )

    def refuse_seen_seeds(self, seeds: Sequence[int], what: str) -> None:
        """Refuses to evaluate on episodes that were learned from.

        Raises:
            RobotRLError: Names one of them.
        """
        judged = self.evaluate.seeds
        seen = [seed for seed in seeds if seed in judged]
        if seen:
            raise RobotRLError(
                f"seed {seen[0]} would be evaluated (evaluate.seed={judged.start}, {len(judged)} episodes) and learned "
                f"from ({what}): an evaluation must not know its episodes, choose another evaluate.seed"
            )

    def identity(self, store: DatasetStore, fingerprint: str) -> dict[str, Any]:
        """All that decides what the run makes; a resumed one must agree with it."""
        everything = asdict(self)
        for harmless in ("policy", "dataset", "run", "snapshot", "log", "workers", "device", "recover"):
            del everything[harmless]
        if not self.realtime:
            del everything["realtime"]
        del everything["data"]["cache"]
        return {
            "command": "improve",
            "dataset": {"snapshot": store.snapshot},
            "initial": fingerprint,
            "spec": store.spec.to_json(),
            **everything,
        }
