"""The whole method on Meta-World, through the user's own commands: imitate, improve, finetune, distill, evaluate.

Per task and seed it goes on from `metaworld_imitation.py`'s demonstrations and imitation policy (made first if they are
not there): two rounds of gated offline RL beside the success-only arm on the same budget, online RL from
where that ended, and a one-step student. Every policy is judged on the same 100 layouts, which none has
seen and which choose nothing. What exists is not done again.

    python -m benchmarks.tasks.metaworld_rl100 --output runs/benchmarks/metaworld
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.tasks.metaworld_imitation import TASKS, run
from benchmarks.tasks.metaworld_imitation import one_run as imitate
from robot_rl.core.confidence import wilson_interval
from robot_rl.reports.summary import write_json

IMPROVE = ("rollouts=60", "second_estimator=false")
FINETUNE = ("tracker=none",)
DISTILL = ("distillation.steps=2000", "log.tracker=none")
"""Besides what `configs/improve_recipe` and `configs/finetune_recipe` say for this robot."""
ARMS = ("imitation", "success-only arm", "offline", "online", "one step")


def judge(policy: Path, task: str, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Success of a policy on the fixed layouts."""
    result = place / "eval.json"
    if not result.exists():
        run(
            "eval", f"task.name={task}", f"policy={policy}", f"episodes={options.episodes}", "seed=100000",
            f"output={place}", "video_episodes=0",
        )  # fmt: skip
    document = json.loads(result.read_text())
    ticks = sorted(row["ticks"] for row in document["rows"] if row["outcome"] == "success")
    return {
        "successes": document["successes"],
        "episodes": document["episodes"],
        "median_ticks": ticks[len(ticks) // 2] if ticks else None,
    }


def one_run(place: Path, task: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything for one task and seed; returns its row."""
    row_path = place / f"{options.name}.json"
    if row_path.exists():
        return dict(json.loads(row_path.read_text()))
    demonstrations, imitation = f"dataset={place / 'dataset'}", place / "run"
    work = place / options.name
    improved, finetuned, student = work / "improve", work / "finetune", work / "one-step"
    seconds = {
        "improve": run(
            "improve", f"task.name={task}", f"policy={imitation}", demonstrations, f"run={improved}",
            f"seed={seed}", "evaluate.episodes=0", *options.improve,
        ),
        "finetune": run(
            "finetune", f"task.name={task}", f"policy={improved}", f"dataset={improved / 'dataset'}",
            f"run={finetuned}", f"seed={600_000 + 20_000 * seed}", *options.finetune,
        ),
    }  # fmt: skip
    seconds["distill"] = run(
        "distill", f"policy={finetuned}", f"dataset={finetuned / 'dataset'}", f"run={student}", *options.distill
    )
    policies = dict(zip(ARMS, (imitation, improved / "control", improved, finetuned, student), strict=True))
    begun = time.perf_counter()
    arms = {name: judge(policy, task, work / "eval" / name, options) for name, policy in policies.items()}
    seconds["evaluate"] = time.perf_counter() - begun
    row = {
        "task": task,
        "seed": seed,
        "arms": arms,
        "seconds": seconds,
        "improve": json.loads((improved / "summary.json").read_text())["stages"],
        "finetune": json.loads((finetuned / "summary.json").read_text())["stages"],
    }
    write_json(row_path, row)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line per task: success per seed and pooled, for every arm."""
    lines = ["| task | " + " | ".join(ARMS) + " |", "|---" * (len(ARMS) + 1) + "|"]
    for task in [*dict.fromkeys(str(row["task"]) for row in rows), "all"]:
        mine = [row for row in rows if task in (row["task"], "all")]
        cells = [task]
        for arm in ARMS:
            judged = [row["arms"][arm] for row in mine]
            successes, episodes = sum(j["successes"] for j in judged), sum(j["episodes"] for j in judged)
            interval = wilson_interval(successes, episodes)
            seeds = "" if task == "all" else " / ".join(f"{j['successes'] / j['episodes']:.2f}" for j in judged) + "; "
            cells.append(f"{seeds}**{successes / episodes:.3f}** ({interval.low:.3f}-{interval.high:.3f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", default="rl100", help="folder of this setting beside the demonstrations")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--skill", default="mild")
    parser.add_argument("--steps", type=int, default=3_000, help="of imitation")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    for command, recipe in (("improve", IMPROVE), ("finetune", FINETUNE), ("distill", DISTILL)):
        parser.add_argument(f"--{command}", nargs="*", default=recipe, help=f"settings for robot-rl {command}")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for task in options.tasks:
            place = options.output / f"{task}-{seed}"
            imitate(place, task, seed, options)
            rows.append(one_run(place, task, seed, options))
            print(json.dumps(rows[-1]["arms"]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
