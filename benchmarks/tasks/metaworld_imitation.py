"""Imitation on Meta-World from imperfect scripted demonstrations, through the user's own commands.

Per task and seed: 100 demonstrations (successes and failures alike are recorded, successes are learned from), one
training run, one ONNX bundle, 100 episodes on layouts that no demonstration showed. What exists is not done again.

    python -m benchmarks.tasks.metaworld_imitation --output runs/benchmarks/metaworld
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from data.archive.store import DatasetStore
from robot_rl.core.confidence import wilson_interval
from robot_rl.core.episode import Outcome
from robot_rl.reports.summary import write_json

TASKS = ("peg-insert-side-v3", "hammer-v3", "push-v3", "pick-place-v3", "door-open-v3")


def run(*words: str) -> float:
    """Runs one robot-rl command; returns its wall time [s]."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "robot_rl.cli", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def one_run(place: Path, task: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything for one task and seed; returns its row."""
    row_path = place / "row.json"
    if row_path.exists():
        return dict(json.loads(row_path.read_text()))
    dataset, policy = place / "dataset", place / "run"
    seconds = {
        "collect": run(
            "collect", f"task.name={task}", f"dataset={dataset}", f"episodes={options.demonstrations}",
            f"seed={seed * 10_000}", f"operator.skill={options.skill}",
        ),
        "train": run(
            "train", f"dataset={dataset}", f"run={policy}", f"imitation.steps={options.steps}",
            f"imitation.seed={seed}", "log.tracker=none",
        ),
        "export": run("export", f"run={policy}", "replace=true"),
        "eval": run(
            "eval", f"task.name={task}", f"policy={policy / 'bundle'}", f"episodes={options.episodes}",
            "seed=100000", f"workers={options.workers}", "video_episodes=0",
        ),
    }  # fmt: skip
    with DatasetStore.open(str(dataset)) as store:
        results = [store.info(each).result for each in store.episode_ids()]
    document = json.loads((policy / "eval" / "eval.json").read_text())
    row = {
        "task": task,
        "seed": seed,
        "demonstrations": len(results),
        "demonstrations_succeeded": sum(result.outcome is Outcome.SUCCESS for result in results),
        "successes": document["successes"],
        "episodes": document["episodes"],
        "seconds": seconds,
    }
    write_json(row_path, row)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line per task."""
    lines = [
        "| task | demonstrations that succeeded | success per seed | pooled | 95 % Wilson, pooled | training, s |",
        "|---|---|---|---|---|---|",
    ]
    for task in dict.fromkeys(str(row["task"]) for row in rows):
        mine = [row for row in rows if row["task"] == task]
        successes, episodes = sum(int(row["successes"]) for row in mine), sum(int(row["episodes"]) for row in mine)
        pooled = wilson_interval(successes, episodes)
        cells = [
            task,
            " / ".join(str(row["demonstrations_succeeded"]) for row in mine) + f" of {mine[0]['demonstrations']}",
            " / ".join(f"{int(row['successes']) / int(row['episodes']):.2f}" for row in mine),
            f"{successes / episodes:.3f} ({successes} of {episodes})",
            f"{pooled.low:.3f} to {pooled.high:.3f}",
            f"{sum(row['seconds']['train'] for row in mine) / len(mine):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--skill", default="mild")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for task in options.tasks:
            rows.append(one_run(options.output / f"{task}-{seed}", task, seed, options))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
