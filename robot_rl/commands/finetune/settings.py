"""Settings of `robot-rl finetune`, and what of them decides the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from data.archive.store import DatasetStore
from robot_rl.config.settings import MISSING
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.offline.critic import CriticConfig
from robot_rl.learning.online.learner import OnlineConfig
from robot_rl.learning.transitions import RewardConfig
from robot_rl.sessions.setup import SessionSettings

VALUES = ("iql", "scratch")


@dataclass
class FinetuneSettings(SessionSettings):
    """Settings of `robot-rl finetune`.

    Attributes:
        policy: Run or checkpoint to begin with; a bundle cannot learn.
        run: Directory of this run; the same command again resumes it.
        dataset: Demonstrations and rollouts to train the first value network on, and to imitate besides if
            `online.demonstration_weight` is not 0; null begins with nothing but the policy.
        snapshot: Snapshot id or tag of the dataset; null is its newest state.
        iterations: Short for `online.iterations`.
        episodes_per_iteration: Short for `online.episodes_per_iteration`.
        value: `iql` trains the first value network on the dataset, `scratch` learns it on the way.
        student: Whether a one-step policy is distilled on the way, into `run/student`.
        online: See `OnlineConfig`.
        reward: See `RewardConfig`.
        critic: See `CriticConfig`; for `value=iql`.
        seed: Of the first episode; each iteration has its own.
        workers: Processes that run episodes; 1 in real time.
        realtime: Run at the robot's own rate; null is where a person operates or the robot moves by itself.
        device: Where to learn: `cpu` or `cuda`. In simulated time episodes run on the CPU.
        recover: What to do with recordings that a crash left behind: `ask`, `yes` or `no`.
        codecs: Camera stream to `jpeg:<quality>` or `png`, for a run that begins without a dataset.
        tracker: `tensorboard`, `wandb` or `none`.
    """

    policy: str = MISSING
    run: str = MISSING
    dataset: str | None = None
    snapshot: str | None = None
    iterations: int | None = None
    episodes_per_iteration: int | None = None
    value: str = "iql"
    student: bool = False
    online: OnlineConfig = field(default_factory=OnlineConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    seed: int = 400_000
    workers: int = 1
    realtime: bool | None = None
    device: str = "cpu"
    recover: str = "ask"
    codecs: dict[str, str] = field(default_factory=dict)
    tracker: str = "tensorboard"

    def resolve(self) -> FinetuneSettings:
        """The plan: these settings with the short ones in `online`, where they belong.

        Raises:
            RobotRLError: Names a setting that cannot work.
        """
        short = {"iterations": self.iterations, "episodes_per_iteration": self.episodes_per_iteration}
        given: dict[str, Any] = {name: value for name, value in short.items() if value is not None}
        plan = replace(self, online=replace(self.online, **given))
        plan._validate()
        return plan

    def _validate(self) -> None:
        if self.value not in VALUES:
            raise RobotRLError(f"value is '{self.value}', wanted one of {', '.join(VALUES)}")
        if self.workers < 1:
            raise RobotRLError(f"workers is {self.workers}, wanted at least 1")
        if self.dataset is None and self.online.demonstration_weight > 0:
            raise RobotRLError("online.demonstration_weight is not 0 but there are no demonstrations: add dataset=...")
        self.online.validate()
        self.reward.validate()
        self.critic.validate()

    @property
    def begins_with_iql(self) -> bool:
        """Whether the value network is trained before the first episode."""
        return self.dataset is not None and self.value == "iql"

    def identity(self, source: DatasetStore | None, fingerprint: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """What a resumed run must agree with, as JSON.

        Args:
            source: The dataset, opened at the snapshot to learn from; None without one.
            fingerprint: Of the policy to begin with.
            spec: The robot's.
        """
        return {
            "command": "finetune",
            "policy": fingerprint,
            "dataset": {"snapshot": None if source is None else source.snapshot},
            "value": self.value if self.begins_with_iql else "scratch",
            "student": self.student,
            "online": asdict(self.online),
            "reward": asdict(self.reward),
            "critic": asdict(self.critic),
            "seed": self.seed,
            "task": asdict(self.task),
            "rollout": asdict(self.rollout),
            "robot": self.robot,
            "operator": self.operator,
            "spec": dict(spec),
        }
