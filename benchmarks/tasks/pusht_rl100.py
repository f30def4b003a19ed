"""The whole method on Push-T from the human demonstrations, through the user's own commands.

It goes on from the dataset and imitation policy that `pusht_human.py` made: `improve` with rollouts of the policy
first, since all demonstrations are successes; `finetune` rewarded by the rise of the covered share; `distill`. Every
policy is judged on the same starts, with the score that Diffusion Policy reports (arXiv 2303.04137). What exists is not
done again.

    python -m benchmarks.tasks.pusht_rl100 --place runs/benchmarks/pusht
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks.metaworld_imitation import run
from robot_rl.core.confidence import bootstrap_mean_interval, wilson_interval


def judge(policy: Path, place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A policy's episodes on the fixed starts."""
    if not (place / "eval.json").exists():
        run(
            "eval", "robot=pusht", f"robot.image={str(options.image).lower()}", f"policy={policy}",
            f"episodes={options.episodes}", "seed=100000", "video_episodes=0", f"output={place}",
        )  # fmt: skip
    return list(json.loads((place / "eval.json").read_text())["rows"])


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """One row of the table."""
    scores = np.array([row["reward_max"] for row in rows])
    successes = sum(row["outcome"] == "success" for row in rows)
    mean, rate = bootstrap_mean_interval(scores, np.random.default_rng(0)), wilson_interval(successes, len(rows))
    return (
        f"| {name} | {scores.mean():.3f} ({mean.low:.3f} to {mean.high:.3f}) "
        f"| {successes} of {len(rows)} ({rate.low:.2f} to {rate.high:.2f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, required=True, help="what was the output of pusht_human.py")
    parser.add_argument("--name", default="rl100", help="folder of this setting")
    parser.add_argument("--policy", default="state-0", help="folder of the imitation policy")
    parser.add_argument("--image", action="store_true", help="the policy sees pictures")
    parser.add_argument("--rollouts", type=int, default=60)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--finetune", nargs="*", default=(), help="settings for robot-rl finetune")
    options = parser.parse_args()
    imitation, output = options.place / options.policy, options.place / options.name
    robot = ("robot=pusht", f"robot.image={str(options.image).lower()}")
    improved, finetuned, student = (output / name for name in ("improve", "finetune", "one-step"))
    run(
        "improve", *robot, f"policy={imitation}", f"dataset={options.place / 'dataset'}", f"run={improved}", "rounds=1",
        f"rollouts={options.rollouts}", "evaluate.episodes=0", "second_estimator=false",
    )  # fmt: skip
    run(
        "finetune", *robot, f"policy={improved}", f"dataset={improved / 'dataset'}", f"run={finetuned}",
        "tracker=none", *options.finetune,
    )  # fmt: skip
    run(
        "distill", f"policy={finetuned}", f"dataset={finetuned / 'dataset'}", f"run={student}",
        "distillation.steps=2000", "log.tracker=none",
    )  # fmt: skip
    print("| policy | mean score (95 % bootstrap over episodes) | successes (95 % Wilson) |\n|---|---|---|")
    arms = {"imitation": imitation, "success-only arm": improved / "control", "offline": improved}
    for name, policy in (arms | {"online": finetuned, "one step": student}).items():
        print(line(name, judge(policy, output / "eval" / name, options)), flush=True)


if __name__ == "__main__":
    main()
