"""Push-T from the 206 human demonstrations published with Diffusion Policy, through the user's own commands.

Score of an episode is the largest covered share of the outline over 0.95, at most 1, within 300 steps, as Diffusion
Policy reports it (arXiv 2303.04137, table 2); the mean is over evaluation seeds from 100000 on.

    python -m benchmarks.tasks.pusht_human --data .../pusht_human.zarr --output runs/benchmarks/pusht --streams state
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from robot_rl.core.confidence import bootstrap_mean_interval, wilson_interval

TRAINING = {
    "state": (
        "policy=diffusion_mlp", "policy.streams=[state,keypoint]", "policy.observation_count=2",
        "policy.mlp.width=512", "policy.mlp.blocks=3",
        "policy.horizon=16", "policy.execute_horizon=8", "policy.prediction=epsilon", "imitation.learning_rate=5e-4",
        "log.checkpoint_every=10000",
    ),
    "image": (
        "policy=diffusion_mlp_image", "policy.streams=[image,state]", "policy.horizon=16", "policy.execute_horizon=8",
        "policy.prediction=epsilon", "policy.mlp.width=512", "policy.mlp.blocks=3", "imitation.learning_rate=5e-4",
        "policy.camera.image_size=[96,96]", "policy.camera.crop=[84,84]", "log.checkpoint_every=2000",
    ),
}  # fmt: skip


def run(*words: str) -> None:
    """Runs one robot-rl command."""
    subprocess.run([sys.executable, "-m", "robot_rl.cli", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--streams", choices=TRAINING, default="state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sampling-steps", type=int, default=10)
    options = parser.parse_args()
    dataset, policy = options.output / "dataset", options.output / f"{options.streams}-{options.seed}"
    if not dataset.exists():
        run("data", "import", "diffusion-policy", str(options.data), str(dataset))
    run(
        "train", f"dataset={dataset}", f"run={policy}", f"imitation.steps={options.steps}",
        f"imitation.seed={options.seed}", *TRAINING[options.streams],
    )  # fmt: skip
    bundle = policy / f"bundle-{options.sampling_steps}"
    run("export", f"run={policy}", f"output={bundle}", "replace=true", f"sampling_steps={options.sampling_steps}")
    evaluation = policy / f"eval-{options.sampling_steps}"
    run(
        "eval", "robot=pusht", f"robot.image={str(options.streams == 'image').lower()}", f"policy={bundle}",
        f"episodes={options.episodes}", "seed=100000", f"workers={options.workers}", f"output={evaluation}",
    )  # fmt: skip
    rows = json.loads((evaluation / "eval.json").read_text())["rows"]
    scores = np.array([row["reward_max"] for row in rows])
    mean = bootstrap_mean_interval(scores, np.random.default_rng(0))
    successes = sum(row["outcome"] == "success" for row in rows)
    rate = wilson_interval(successes, len(rows))
    print(
        f"| {options.streams} | {options.seed} | {options.steps} | {options.sampling_steps} | {len(scores)} "
        f"| {scores.mean():.3f} ({mean.low:.3f} to {mean.high:.3f}) | {scores.max():.3f} "
        f"| {successes} ({rate.low:.2f} to {rate.high:.2f}) |"
    )


if __name__ == "__main__":
    main()
