"""What a training run learns from and how: its settings, resolved against a dataset.

Whatever decides the weights is in `Plan.identity`, with which a resumed run must agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from data.archive.store import DatasetStore
from data.training.window_cache import ActionSource, CacheContent, Selection, select_episodes
from policies.diffusion import DiffusionPolicy
from policies.trainable import PolicyConfig, Trainable
from robot_rl.config.settings import MISSING, to_dataclass
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec
from robot_rl.core.version import software_version
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.run.checkpoint import load_policy, policy_class, policy_config_class, read_record, resolve_checkpoint
from robot_rl.run.training_loop import LogSettings

SMALL_IMAGE_PX = 128
"""Cameras up to this size are cached as they are, so that one cache serves policies of any image size."""


@dataclass
class DataSettings:
    """What to learn from.

    Attributes:
        outcomes: Episodes with one of these labels: `success`, `failure`, `aborted`.
        action_source: `applied`, what the robot really did, or `requested`, what it was asked to do.
        held_out_fraction: Share of the episodes kept aside to judge by.
        shortest_fraction: Share of those episodes to keep, the shortest: of several successes, the quickest show most.
        cache: Folder of the window caches; null is `windows` in the dataset's own folder, or in the state folder of
            one in an object store. Caches may be deleted at any time; the next run builds its own again.
    """

    outcomes: list[str] = field(default_factory=lambda: [str(Outcome.SUCCESS)])
    action_source: str = "applied"
    held_out_fraction: float = 0.05
    shortest_fraction: float = 1.0
    cache: str | None = None


@dataclass
class TrainSettings:
    """Settings of `robot-rl train`.

    Attributes:
        dataset: Directory or `s3://` address.
        run: Directory of this run; the same command again resumes it.
        policy: `configs/policy/*.yaml`: the class and its config. Its `streams` may name `cameras`,
            `point_clouds` and `low_dimensional` for all streams of that kind.
        snapshot: Snapshot id or tag of the dataset; null is its newest state.
        initial: Run or checkpoint to start from, with its class, config, weights and statistics; takes the place of
            `policy`. The normaliser is not fitted again: the weights were made for its units.
        freeze_encoder: Leaves the observation encoder as it is, so that critics trained on it stay valid.
        data: See `DataSettings`.
        imitation: See `ImitationConfig`.
        log: See `LogSettings`.
        device: `auto`, `cpu` or `cuda`. Several GPUs: `accelerate launch -m robot_rl.cli train ...`.
        readers: Threads that read windows.
    """

    dataset: str = MISSING
    run: str = MISSING
    policy: dict[str, Any] = MISSING
    snapshot: str | None = None
    initial: str | None = None
    freeze_encoder: bool = False
    data: DataSettings = field(default_factory=DataSettings)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    log: LogSettings = field(default_factory=LogSettings)
    device: str = "auto"
    readers: int = 2


class InitialPolicy(NamedTuple):
    """What a run starts from instead of random weights."""

    checkpoint: Path
    policy: DiffusionPolicy
    fingerprint: str

    @classmethod
    def load(cls, path: str) -> InitialPolicy:
        """The newest checkpoint of a run, or a checkpoint."""
        checkpoint = resolve_checkpoint(Path(path))
        policy = load_policy(checkpoint)
        return cls(checkpoint, policy, policy.fingerprint())


@dataclass(frozen=True)
class Plan:
    """Settings resolved against a dataset: all that decides what is learned.

    Attributes:
        policy_path: Name of the class, as in the yaml.
        policy_config: With the names of streams filled in.
        selection: Episodes.
        content: Of the window cache.
        initial: What the run starts from; None for weights from the seed.
    """

    settings: TrainSettings
    policy_path: str
    policy_config: PolicyConfig
    selection: Selection
    content: CacheContent
    initial: InitialPolicy | None = None

    @property
    def spec(self) -> RobotSpec:
        """The robot's."""
        return self.content.spec

    def identity(self) -> dict[str, Any]:
        """What a resumed run must agree with, as JSON."""
        data = asdict(self.settings.data)
        del data["cache"]
        # Only where it says something, so that runs from before these settings can still be resumed.
        if data["shortest_fraction"] == 1.0:
            del data["shortest_fraction"]
        start: dict[str, Any] = {}
        if self.initial is not None:
            start["initial"] = self.initial.fingerprint
        if self.settings.freeze_encoder:
            start["freeze_encoder"] = True
        return {
            **start,
            "dataset": {"snapshot": self.content.snapshot, "episodes": len(self.selection.ids)},
            "data": data,
            "policy": {"class": self.policy_path, **self.policy_config.to_json()},
            "imitation": asdict(self.settings.imitation),
            "spec": self.spec.to_json(),
        }

    def defaults(self) -> dict[str, Any]:
        """What the identity is where nobody decides: a run from before a setting existed was made with it."""
        data = asdict(DataSettings())
        del data["cache"]
        return {
            "data": data,
            "policy": type(self.policy_config)().to_json(),
            "imitation": asdict(type(self.settings.imitation)()),
        }

    def record(self, policy: Trainable) -> dict[str, Any]:
        """What every checkpoint says about itself."""
        start = self.initial
        parent = {} if start is None else {"parent": str(start.checkpoint), "parent_policy": start.fingerprint}
        return {
            "class": self.policy_path,
            "config": self.policy_config.to_json(),
            "spec": policy.spec.to_json(),
            "provenance": {
                **parent,
                "dataset": self.settings.dataset,
                "snapshot": self.content.snapshot,
                "episodes": len(self.selection.ids),
                "software_version": software_version(),
            },
            "training": {"data": asdict(self.settings.data), "imitation": asdict(self.settings.imitation)},
        }


def make_plan(settings: TrainSettings, store: DatasetStore) -> Plan:
    """Resolves the settings against a dataset.

    Raises:
        RobotRLError: They contradict each other or the dataset.
    """
    if settings.data.action_source not in ("applied", "requested"):
        raise RobotRLError(f"data.action_source is '{settings.data.action_source}', wanted applied or requested")
    initial = None
    if settings.initial is None:
        policy_path, policy_config = policy_settings(settings.policy, store.spec)
    else:
        initial = InitialPolicy.load(settings.initial)
        initial.policy.spec.require(store.spec, f"the initial policy {settings.initial}")
        policy_path, policy_config = read_record(initial.checkpoint)["class"], initial.policy.config
    selection = select_episodes(store, [_outcome(name) for name in settings.data.outcomes])
    selection = keep_shortest(store, selection, settings.data.shortest_fraction)
    content = CacheContent(
        store.snapshot,
        store.spec,
        policy_config.streams,
        selection.ids,
        cast(ActionSource, settings.data.action_source),
        image_sizes(store.spec, policy_config),
    )
    return Plan(settings, policy_path, policy_config, selection, content, initial)


def keep_shortest(store: DatasetStore, selection: Selection, fraction: float) -> Selection:
    """The shortest of the selected episodes, at least one, in their order; see `DataSettings`."""
    if not 0.0 < fraction <= 1.0:
        raise RobotRLError(f"data.shortest_fraction is {fraction}, wanted more than 0 and at most 1")
    if fraction == 1.0:
        return selection
    results = {each: store.info(each).result for each in selection.ids}
    by_length = sorted(selection.ids, key=lambda each: (results[each].ticks, each))
    kept = set(by_length[: max(1, round(fraction * len(by_length)))])
    dropped = Counter(results[each].outcome for each in selection.ids if each not in kept)
    return Selection(tuple(each for each in selection.ids if each in kept), dict(dropped + Counter(selection.left_out)))


def policy_settings(settings: Mapping[str, Any], spec: RobotSpec) -> tuple[str, PolicyConfig]:
    """The policy's class and its config for a robot, checked.

    Raises:
        RobotRLError: An unknown key or stream, or values that cannot work together.
    """
    values = dict(settings)
    path = str(values.pop("_target_", ""))
    config = cast(PolicyConfig, to_dataclass(cast(Any, values), policy_config_class(policy_class(path))))
    groups = {
        "cameras": spec.images,
        "point_clouds": spec.point_clouds,
        "low_dimensional": tuple(name for name in spec.observations if name not in (*spec.images, *spec.point_clouds)),
    }
    expanded = [name for each in config.streams for name in groups.get(each, (each,))]
    config.streams = tuple(dict.fromkeys(expanded))
    config.validate()
    spec.select(config.streams)
    return path, config


def image_sizes(spec: RobotSpec, config: PolicyConfig) -> dict[str, tuple[int, int]]:
    """Cameras to shrink when the cache is built: large ones, to the size that the policy shrinks them to anyway."""
    target = config.image_size
    if target is None:
        return {}
    sizes = {name: spec.observations[name].shape[:2] for name in config.streams if name in spec.images}
    return {
        name: target
        for name, size in sizes.items()
        if max(size) > SMALL_IMAGE_PX and size[0] >= target[0] and size[1] >= target[1]
    }


def _outcome(name: str) -> Outcome:
    try:
        return Outcome(name)
    except ValueError as error:
        raise RobotRLError(f"data.outcomes has '{name}', wanted any of {', '.join(Outcome)}") from error
