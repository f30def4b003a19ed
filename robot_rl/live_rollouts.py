"""Rollouts of `robot-rl improve` in real time: what is missing of a phase is asked of whoever is beside the robot.

A phase's episodes are those that its dataset has gained since the phase began. So a session that was stopped or killed
goes on with the next episode, under the next seed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from data.store import DatasetStore
from policies.exploring_policy import ExploringPolicy
from robot_rl.collected import CollectedEpisode
from robot_rl.improve_settings import ImproveSettings
from robot_rl.live_collector import LiveCollector, labelled, scene_for


def live_rollouts(
    settings: ImproveSettings, dataset: Path, since: str, policy: ExploringPolicy, wanted: int, console: Console
) -> dict[str, Any]:
    """Completes a phase's rollouts.

    Args:
        settings: Of the command.
        dataset: Where episodes go, each as it ends.
        since: Its snapshot when the phase began.
        policy: Drives, exploring.
        wanted: Labelled episodes of the phase.
        console: For the person waiting.

    Returns:
        `snapshot`, labelled `episodes`, `ticks` of all that ran, and the number of each of the labelled ones'
        `outcomes`; one that was stopped says nothing.

    Raises:
        KeyboardInterrupt: The operator stopped the session; what it brought is kept.
        RobotRLError: A fault ended an episode.
    """
    known = _gained(dataset, since)
    if len(labelled(known)) < wanted:
        scene = scene_for(settings, settings.realtime, settings.workers)
        console.print(f"  {scene.robot.spec.name} is about to move: {wanted - len(labelled(known))} episodes to run")
        with LiveCollector(settings, scene, dataset, settings.recover, {}, console) as live:
            stopped = live.collect(policy, settings.rollout_seed, wanted, known).stopped
        known = _gained(dataset, since)
        if stopped:
            console.print(
                f"  stopped with {len(labelled(known))} of {wanted} episodes, which are in {dataset}; the same command "
                "goes on with the next"
            )
            raise KeyboardInterrupt
    results = [each.episode.result for each in known]
    with DatasetStore.open(str(dataset)) as store:
        return {
            "snapshot": store.snapshot,
            "episodes": len(labelled(known)),
            "ticks": sum(result.ticks for result in results),
            "outcomes": dict(Counter(str(each.episode.result.outcome) for each in labelled(known))),
        }


def _gained(dataset: Path, since: str) -> list[CollectedEpisode]:
    """The episodes that came after a snapshot, without their streams."""
    with DatasetStore.open(str(dataset), snapshot=since) as store:
        newest = int(store.newest_id)
    with DatasetStore.open(str(dataset)) as store:
        new = [each for each in store.episode_ids() if int(each) > newest]
        return [CollectedEpisode(store.read(each, ()), ()) for each in new]
