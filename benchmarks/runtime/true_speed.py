"""How fast an arm really moves when it does not follow, lies about where it is, or is moved by somebody.

    python -m benchmarks.runtime.true_speed [--times 20] [--seed 0] [--only WORD ...] [--output runs/true_speed]

A simulated arm with physics of its own (`hardware/sim/troubled_arm.py`) is driven through the arm node's own logic in
stepped time (`true_speed_pilot.py`), and gets into one kind of trouble at a random moment. Its servo is a first-order
lag, and in every second trial of second order with stiction. Judged are its true joints at 100 Hz, in units of
`limits.max_velocity`; a hand's own motion is left out, the arm's answer to it is not.

- *true speed*: largest of all runs, and how many runs were above 1.05.
- *said*: the first reason with which the arm node latched; `went on` where it did not have to.
- *rest*: from the beginning of the trouble until the joints rest, where the arm node latched.
- a leader arm that lies: what the operator said, and how far joints went that the person did not move.
- *restarted*: an episode after the trouble ran to its end, and the first command of every motion was within 10 mrad of
  where the arm was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ros.fault_bench import joint_arm_settings
from benchmarks.runtime.true_speed_leader import run_leader_trial
from benchmarks.runtime.true_speed_pilot import ANCHORED_RAD, SESSION, Stand, Trial, run_trial
from hardware.arm.mail import ResetMail
from hardware.arm.state import Enable
from hardware.sim.troubles import (
    EncoderOffset,
    FalseKind,
    FalseSamples,
    Frozen,
    LostCommands,
    OtherPublisher,
    Pushed,
    Silent,
    Since,
    SpeedScaled,
    Trouble,
)

MOST = 1.05
MIDDLE_S = (0.3, 1.8)
"""When a trouble comes after the first command [s]."""
LONGEST_REASON = 110
BODIES: Sequence[Mapping[str, Any]] = ({}, {"order": 2, "stiction_rad": 0.002})
"""Every second trial's arm has a second-order servo and stiction."""


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: In the table.
        troubles: Of the arm, one trial's drawn from its generator.
        interrupt: What the session does besides, at every tick of the first episode.
        arm: More of `TroubledArm`, besides `BODIES`.
        leader: What a leader arm shows for a moment, where one leads.
    """

    name: str
    troubles: Callable[[np.random.Generator], Sequence[Trouble]] = lambda _: ()
    interrupt: Callable[[int], Callable[[Stand], None]] | None = None
    arm: Mapping[str, Any] = field(default_factory=dict)
    leader: FalseKind | None = None


def false_samples(shows: FalseKind, when: str) -> Scenario:
    """One to five of them: before or at the first episode, in the middle, or at the second reset."""

    def troubles(generator: np.random.Generator) -> Sequence[Trouble]:
        samples = int(generator.choice([1, 1, 2, 3, 5])) if shows is not FalseKind.STALE else 20
        joint = int(generator.integers(0, 6))
        since, at_s, first = {
            "start": (Since.START, (0.0, 0.5), 1),
            "middle": (Since.MOTION, MIDDLE_S, 1),
            "reset": (Since.RESET, (0.0, 0.15), 2),
        }[when]
        return [
            FalseSamples(shows=shows, samples=samples, joint=joint, since=since, at_s=at_s, first=first, every=1000)
        ]

    return Scenario(f"false sample: {shows.value}, {when}", troubles)


def once(make: Callable[..., Trouble], **settings: Any) -> Callable[[np.random.Generator], Sequence[Trouble]]:
    """A trouble of the first episode."""
    return lambda _: [make(at_s=MIDDLE_S, every=1000, **settings)]


def pushed(generator: np.random.Generator) -> Sequence[Trouble]:
    """By 0.3 rad, either way, at the pace of a hand."""
    by_rad = 0.3 * float(generator.choice([-1.0, 1.0]))
    joint, push_s = int(generator.integers(0, 6)), float(generator.uniform(0.4, 1.0))
    return [Pushed(at_s=MIDDLE_S, for_s=push_s + 0.5, push_s=push_s, by_rad=by_rad, joint=joint, every=1000)]


def frozen_unseen(generator: np.random.Generator) -> Sequence[Trouble]:
    """Let go before it is seen again."""
    at_s = float(generator.uniform(*MIDDLE_S))
    return [
        Silent(at_s=(at_s, at_s), for_s=0.4, every=1000),
        Frozen(at_s=(at_s, at_s), for_s=float(generator.uniform(0.05, 0.38)), every=1000),
    ]


def silent_then(reset: bool) -> Callable[[int], Callable[[Stand], None]]:
    """While the arm is silent, the session begins anew: by a reset, or by disabling and enabling."""

    def made(seed: int) -> Callable[[Stand], None]:
        delay_s = float(np.random.default_rng(seed).uniform(0.02, 0.35))
        done: list[bool] = []

        def interrupt(stand: Stand) -> None:
            begun = [at_ns for at_ns, words in stand.arm.events if words == Silent.kind]
            if done or not begun or stand.now_ns < begun[0] + delay_s * 1e9:
                return
            done.append(True)
            if reset:
                stand.hear(ResetMail(SESSION, seed, stand.robot_ns))
            else:
                stand.hear(Enable(False))
                stand.hear(Enable(True))

        return interrupt

    return made


SCENARIOS: Sequence[Scenario] = (
    Scenario("no trouble"),
    Scenario("pauses of up to 50 ms, one a second", arm={"pauses_per_s": 1.0}),
    *(false_samples(shows, when) for shows in FalseKind for when in ("start", "middle", "reset")),
    *(Scenario(f"frozen for {for_s:g} s", once(Frozen, for_s=for_s)) for for_s in (0.1, 0.5, 3.0)),
    *(
        Scenario(f"speed scaled to {100 * scale:g} % for 1 s", once(SpeedScaled, for_s=1.0, scale=scale))
        for scale in (0.0, 0.1, 0.5)
    ),
    Scenario("pushed by hand 0.3 rad", pushed),
    Scenario(
        "encoder offset of 2 pi at a reset", lambda g: [EncoderOffset(joint=int(g.integers(6)), first=2, every=1000)]
    ),
    *(
        Scenario(f"two publishers, {away:g} rad apart, 0.5 s", once(OtherPublisher, for_s=0.5, away_rad=away))
        for away in (0.02, 0.4)
    ),
    *(
        Scenario(f"{100 * share:g} % of commands lost for {for_s:g} s", once(LostCommands, share=share, for_s=for_s))
        for share, for_s in ((0.2, 2.0), (0.5, 2.0), (1.0, 0.3))
    ),
    Scenario("silent for 0.4 s and frozen meanwhile", frozen_unseen),
    Scenario("silent for 0.4 s", once(Silent, for_s=0.4)),
    Scenario("silent for 0.4 s, then a reset", once(Silent, for_s=0.4), silent_then(reset=True)),
    Scenario("silent for 0.4 s, then disabled and enabled", once(Silent, for_s=0.4), silent_then(reset=False)),
    *(Scenario(f"leader arm: {shows.value}", leader=shows) for shows in FalseKind),
)


def run_scenario(scenario: Scenario, settings: Mapping[str, Any], seeds: Sequence[int]) -> list[Trial]:
    """All trials of a kind."""
    if scenario.leader is not None:
        return [run_leader_trial(settings, seed, scenario.leader) for seed in seeds]
    trials = []
    for seed in seeds:
        troubles = scenario.troubles(np.random.default_rng(seed))
        interrupt = None if scenario.interrupt is None else scenario.interrupt(seed)
        trials.append(run_trial(settings, seed, troubles, interrupt, {**BODIES[seed % len(BODIES)], **scenario.arm}))
    return trials


HEAD = (
    "| trouble | runs | true speed / limit, median, largest | runs above 1.05 | said | commands that waited, most "
    "| rest p50 / max [s] | restarted from the measured place |\n|" + "---|" * 8
)


def line(name: str, trials: Sequence[Trial]) -> str:
    """One row of the table."""
    over = np.array([each.over for each in trials])
    rest = [each.rest_s for each in trials if each.rest_s is not None]
    restarted = sum(each.came_back and each.apart_rad <= ANCHORED_RAD for each in trials)
    columns = [
        name,
        str(len(trials)),
        f"{np.median(over):.2f}, {over.max():.2f}",
        str(int((over > MOST).sum())),
        said(trials),
        str(max(each.waited for each in trials)),
        f"{np.median(rest):.2f} / {max(rest):.2f}" if rest else "-",
        f"{restarted} of {len(trials)}",
    ]
    if astray := max(each.astray_rad for each in trials):
        columns[4] += f"<br>joints that nobody moved went {1000 * astray:.0f} mrad astray at most"
    return "| " + " | ".join(columns) + " |"


def said(trials: Sequence[Trial]) -> str:
    """First reasons, the commonest first, without what differs from trial to trial."""
    words: Counter[str] = Counter()
    for each in trials:
        text = each.said[0] if each.said else "went on"
        text = re.sub(r"dimension \d+ \('\w+'\)", "dimension ...", text)
        text = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "...", text).replace("|", "/")
        words[text[:LONGEST_REASON]] += 1
    return "<br>".join(f"{count}x {text}" for text, count in words.most_common(3))


def settings_with_following() -> dict[str, Any]:
    """The simulated real-time arm of `configs/robot/ros/sim_joint.yaml`."""
    settings = joint_arm_settings()
    settings["limits"].setdefault("following", {"lag_s": 0.05, "wait": 0.04, "fault": 0.225})
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="trials of every kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial")
    parser.add_argument("--only", nargs="+", default=[""], help="kinds whose name holds one of these")
    parser.add_argument("--output", type=Path, default=Path("runs/true_speed"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings, results, lines = settings_with_following(), {}, []
    print(HEAD, flush=True)
    begun_s = time.monotonic()
    for scenario in SCENARIOS:
        if not any(word in scenario.name for word in arguments.only):
            continue
        trials = run_scenario(scenario, settings, range(arguments.seed, arguments.seed + arguments.times))
        results[scenario.name] = [dataclasses.asdict(each) for each in trials]
        lines.append(line(scenario.name, trials))
        print(lines[-1], flush=True)
        (arguments.output / "true_speed.json").write_text(json.dumps(results, indent=1) + "\n")
        (arguments.output / "true_speed.md").write_text("\n".join([HEAD, *lines]) + "\n")
    runs = sum(map(len, results.values()))
    print(f"\n{runs} runs in {time.monotonic() - begun_s:.0f} s")


if __name__ == "__main__":
    main()
