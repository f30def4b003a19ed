"""The phases that rounds of offline RL and of their control arm share: rollouts, and imitation again.

In simulated time rollouts come from parallel processes, an episode for each seed. In real time what is missing of them
is asked of whoever is beside the robot: a phase's episodes are those that its dataset has gained since the phase began.
So a session that was stopped or killed goes on with the next episode, under the next seed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from data.archive.store import DatasetStore
from policies.diffusion import DiffusionPolicy
from policies.exploring_policy import ExploringPolicy
from policies.trainable import Trainable
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.commands.train.main import train
from robot_rl.commands.train.plan import TrainSettings
from robot_rl.core.confidence import OwnRollouts
from robot_rl.core.episode import Episode, Outcome
from robot_rl.core.version import software_version
from robot_rl.learning.collected import CollectedEpisode
from robot_rl.run.checkpoint import load_policy, read_record, save_checkpoint
from robot_rl.run.dataset import append_rollouts, outcomes_of
from robot_rl.run.phases import Phase, StageRun
from robot_rl.sessions.live import LiveCollector, labelled, scene_for
from robot_rl.sessions.parallel import EpisodeCollector


@dataclass(frozen=True)
class Branch:
    """Where one way of improving stands.

    Attributes:
        name: Prefix of its phases: empty, or `control/`.
        dataset: Its own, or the one it shares.
        snapshot: Of that dataset.
        policy: Directory of the policy that acts now.
        own: The newest rollouts of a policy of this branch that was not taken back; None before the first.
    """

    name: str
    dataset: Path
    snapshot: str
    policy: Path
    own: OwnRollouts | None = None


class Steps:
    """The phases that rounds are made of. A context manager: the robots live as long as it does.

    Args:
        settings: See `ImproveSettings`.
        run: Where the phases are kept.
        console: For the person waiting.
    """

    def __init__(self, settings: ImproveSettings, run: StageRun, console: Console) -> None:
        self.settings, self.run, self.console = settings, run, console
        wanted = settings.device
        self.device = torch.device(
            "cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu"
        )
        self._collector: EpisodeCollector | None = None
        self._entered = ExitStack()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def policy_of(self, directory: Path) -> DiffusionPolicy:
        """The policy of a phase."""
        return load_policy(directory, self.device)

    def save_policy(self, directory: Path, policy: Trainable, provenance: Mapping[str, Any], step: int = 1) -> None:
        """Makes a directory one that every command can load a policy from."""
        record = {
            "class": f"{type(policy).__module__}.{type(policy).__qualname__}",
            "config": policy.config.to_json(),
            "spec": policy.spec.to_json(),
            "provenance": {**provenance, "software_version": software_version()},
        }
        save_checkpoint(directory, step, policy, {}, record)

    def collect(self, phase: str, branch: Branch, seeds: Sequence[int]) -> Phase:
        """Rolls out a branch's policy, exploring, and appends the episodes to its dataset.

        The facts are `snapshot`, labelled `episodes`, `ticks` of all that ran, and the number of each of the labelled
        ones' `outcomes`.

        Raises:
            KeyboardInterrupt: The operator stopped the session; what it brought is kept.
            RobotRLError: A fault ended an episode.
        """

        def work(directory: Path) -> Mapping[str, Any]:
            policy = load_policy(branch.policy)
            explorer = ExploringPolicy(policy, provenance=read_record(branch.policy)["provenance"])
            if self.settings.realtime:
                return self._live_rollouts(explorer, branch, len(seeds))
            fingerprint = policy.fingerprint()
            return append_rollouts(branch.dataset, fingerprint, seeds, lambda batch: self._episodes(explorer, batch))

        return self.run.phase(branch.name + phase, work)

    def _episodes(self, explorer: ExploringPolicy, seeds: Sequence[int]) -> list[Episode]:
        if self._collector is None:
            self._collector = self._entered.enter_context(EpisodeCollector(self.settings, self.settings.workers))
        return [collected.episode for collected in self._collector.collect(explorer, seeds)]

    def _live_rollouts(self, explorer: ExploringPolicy, branch: Branch, wanted: int) -> dict[str, Any]:
        """Completes the phase's labelled episodes with somebody beside the robot."""
        settings, dataset = self.settings, branch.dataset
        known = _gained(dataset, branch.snapshot)
        missing = wanted - len(labelled(known))
        if missing > 0:
            scene = scene_for(settings, settings.realtime, settings.workers)
            self.console.print(f"  {scene.robot.spec.name} is about to move: {missing} episodes to run")
            with LiveCollector(settings, scene, dataset, settings.recover, {}, self.console) as live:
                stopped = live.collect(explorer, settings.rollout_seed, wanted, known).stopped
            known = _gained(dataset, branch.snapshot)
            if stopped:
                self.console.print(
                    f"  stopped with {len(labelled(known))} of {wanted} episodes, which are in {dataset}; the same "
                    "command goes on with the next"
                )
                raise KeyboardInterrupt
        outcomes = Counter(str(each.episode.result.outcome) for each in labelled(known))
        with DatasetStore.open(str(dataset)) as store:
            return {
                "snapshot": store.snapshot,
                "episodes": sum(outcomes.values()),
                "ticks": sum(each.episode.result.ticks for each in known),
                "outcomes": dict(outcomes),
            }

    def imitate(self, phase: str, branch: Branch, number: int) -> Phase | None:
        """Imitates a branch's successes from its policy's weights; None if it has none."""
        if not outcomes_of(branch.dataset, branch.snapshot)[str(Outcome.SUCCESS)]:
            return None
        settings = self.settings

        def work(directory: Path) -> Mapping[str, Any]:
            config = dataclasses.replace(settings.imitation, seed=settings.imitation.seed + settings.seed + number)
            finished = train(
                TrainSettings(
                    dataset=str(branch.dataset),
                    run=str(directory),
                    policy={},
                    snapshot=branch.snapshot,
                    initial=str(branch.policy),
                    freeze_encoder=True,
                    data=settings.data,
                    imitation=config,
                    log=settings.log,
                    device=settings.device,
                ),
                quiet=True,
            )
            if not finished:
                # Asked to stop, it has saved its step; the command stops with it.
                raise KeyboardInterrupt
            return {"steps": config.steps, "fingerprint": load_policy(directory).fingerprint()}

        return self.run.resumable_phase(branch.name + phase, work)


def _gained(dataset: Path, since: str) -> list[CollectedEpisode]:
    """The episodes that came after a snapshot, without their streams."""
    with DatasetStore.open(str(dataset), snapshot=since) as store:
        newest = int(store.newest_id)
    with DatasetStore.open(str(dataset)) as store:
        new = [each for each in store.episode_ids() if int(each) > newest]
        return [CollectedEpisode(store.read(each, ()), ()) for each in new]
