from pathlib import Path

import pytest

from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.config.settings import load

CONFIGS = Path(__file__).parents[2] / "configs"


def robots() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "robot").glob("*.yaml"))


@pytest.mark.parametrize("robot", robots())
def test_every_robots_settings_are_valid_with_its_recipe_or_without_one(robot: str):
    load(ImproveSettings, "improve", [f"robot={robot}", "policy=p", "dataset=d", "run=r"]).resolve(realtime=False)
    load(FinetuneSettings, "finetune", [f"robot={robot}", "policy=p", "run=r"]).resolve()


def test_what_the_user_says_goes_before_the_recipe():
    chosen = load(ImproveSettings, "improve", ["policy=p", "dataset=d", "run=r", "reward.gamma=0.9"])
    assert (chosen.reward.gamma, chosen.offline.sampling_steps) == (0.9, 5)


@pytest.mark.parametrize("command", ["improve", "finetune"])
def test_every_recipe_is_a_robots(command: str):
    assert {path.stem for path in (CONFIGS / f"{command}_recipe").glob("*.yaml")} <= set(robots())
