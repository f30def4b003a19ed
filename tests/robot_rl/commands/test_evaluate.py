"""Settings of `robot-rl eval`, and of the evaluation that another command makes."""

from robot_rl.commands.evaluate import EvalSettings, EvaluationSettings
from robot_rl.commands.improve.settings import ImproveSettings
from robot_rl.config.settings import load


def test_the_earlier_name_of_film_still_counts():
    assert load(EvalSettings, "eval", ["policy=p"]).film == 4
    assert load(EvalSettings, "eval", ["policy=p", "film=2"]).film == 2
    assert load(EvalSettings, "eval", ["policy=p", "video_episodes=0"]).film == 0


def test_an_evaluation_within_a_command_is_its_robot_and_task_and_its_episodes():
    command = load(ImproveSettings, "improve", ["policy=p", "dataset=d", "run=r", "evaluate.seed=7"])
    told = EvalSettings.within(command, EvaluationSettings(3, 7, 1), policy="q", output="o", film=0)
    assert (told.robot, told.limits, told.task, told.rollout) == (
        command.robot,
        command.limits,
        command.task,
        command.rollout,
    )
    assert (told.policy, told.output, [*told.seeds], told.film) == ("q", "o", [7, 8, 9], 0)
