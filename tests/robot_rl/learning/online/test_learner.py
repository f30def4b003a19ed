import math
import pickle

import numpy as np
import pytest
import torch

from policies.consistency import ConsistencyPolicy
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Outcome, Source, Step
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.collected import CollectedEpisode, MemorySink, SampledChunk
from robot_rl.learning.denoising_ppo import PpoConfig
from robot_rl.learning.distillation import distillation_loss
from robot_rl.learning.encoded_imitation import denoising_loss, encoded_windows
from robot_rl.learning.online.advantages import operator_segments, policy_segments
from robot_rl.learning.online.learner import OnlineConfig, OnlineLearner
from robot_rl.learning.online.value_learner import ValueConfig, ValueLearner, explained_variance, value_loss
from robot_rl.learning.transitions import RewardConfig
from tests.policies.tiny_policies import SPEC, random_observation, tiny_policy
from tests.robot_rl.learning.offline.test_improver import same


def start(seed=0):
    return tiny_policy(gain=1.0, prediction="sample", seed=seed).eval()


def small(**overrides):
    ppo = PpoConfig(learning_rate=3e-4, clip=0.2, epochs=3, batch_size=16)
    value = ValueConfig(epochs=2, batch_size=16, width=16, blocks=1)
    fields = {
        "iterations": 4,
        "warmup_iterations": 0,
        "sampling_steps": 3,
        "sigma_min": 0.1,
        "sigma_max": 0.3,
        "ppo": ppo,
        "value": value,
        "imitation_batch_size": 16,
    }
    return OnlineConfig(**{**fields, **overrides})


def learner_of(config=None, **options):
    return OnlineLearner(start(), None, config or small(), RewardConfig(gamma=0.9), **options)


def driven(policy, source, seed, success):
    """An episode driven as a string says, with chains the policy really sampled, a decision every other tick."""
    generator = torch.Generator().manual_seed(seed)
    sink = MemorySink()
    sink.begin(SPEC, EpisodeHeader("task", "", "", seed, "2026-01-01T00:00:00Z", "0"))
    decisions = []
    for tick, who in enumerate(source):
        seen = random_observation(SPEC, 1000 * seed + tick, tick * SPEC.tick_ns)
        if who == "p" and (tick % 2 == 0 or source[tick - 1] == "o"):
            values = {name: torch.from_numpy(seen.values[name])[None, None] for name in policy.config.streams}
            stacked = {name: array.repeat(1, 2, *[1] * (array.dim() - 2)) for name, array in values.items()}
            steps, *chunk = policy.noise_shape
            with torch.no_grad():
                noise = torch.randn(1, steps + 1, *chunk, generator=generator)
                states = policy.denoise(policy.encode(stacked), noise).states[0].numpy()
            decisions.append(SampledChunk(tick, states))
        action = np.array([-0.01, 1.0, 1.0], np.float32)
        sink.append(Step(seen, action, action, Source.OPERATOR if who == "o" else Source.POLICY, 0.0))
    outcome = Outcome.SUCCESS if success else Outcome.FAILURE
    sink.end(EpisodeResult(outcome, True, False, "", len(source)))
    return CollectedEpisode(sink.take(), tuple(decisions))


def collect(policy, iteration=0, count=6):
    sources = ["pppppp", "ppoopp", "pppooo"]
    return [driven(policy, sources[i % 3], 10 * iteration + i, success=i % 2 == 0) for i in range(count)]


def test_the_value_loss_counts_the_worse_of_a_prediction_and_its_clipped_self():
    value, old = torch.tensor([1.0, 1.0, 0.1]), torch.zeros(3)
    target = torch.tensor([1.0, 3.0, 0.0])
    by_hand = ((0.2 - 1.0) ** 2 + (0.2 - 3.0) ** 2 + 0.1**2) / 3
    assert float(value_loss(value, old, target, 0.2)) == pytest.approx(by_hand)
    assert float(value_loss(value, old, target, None)) == pytest.approx((0 + 4 + 0.01) / 3)


def test_explained_variance_is_one_for_the_targets_and_zero_for_their_mean():
    target = torch.tensor([0.0, 1.0, 4.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(target.mean().expand(3), target) == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(target, torch.ones(3)) == 0.0


def test_a_value_network_learns_what_states_are_worth():
    generator = torch.Generator().manual_seed(0)
    condition = 50.0 + 3.0 * torch.randn(256, 4, generator=generator)
    target = (condition[:, 0] > 50.0).float()
    learner = ValueLearner(None, 4, ValueConfig(learning_rate=1e-2, epochs=20, clip=0.5), torch.device("cpu"))
    for _ in range(4):
        learner.update(condition, target, generator)
    assert explained_variance(learner(condition), target) > 0.8


def test_only_the_value_network_learns_while_it_warms_up():
    learner = learner_of(small(warmup_iterations=1))
    policy, value = learner.policy.fingerprint(), learner.value.state()["network"]
    metrics = learner.update(collect(learner.policy), None, 0)
    assert learner.policy.fingerprint() == policy
    assert not same(value, learner.value.state()["network"])
    assert "kl" not in metrics
    learner.update(collect(learner.policy, 1), None, 1)
    assert learner.policy.fingerprint() != policy


def test_the_policy_it_started_from_and_a_given_value_network_are_left_as_they_were():
    policy = start()
    before = policy.fingerprint()
    warm = ValueLearner(None, policy.encoder.output_size, ValueConfig(width=16), torch.device("cpu")).network
    weights = {name: tensor.clone() for name, tensor in warm.state_dict().items()}
    learner = OnlineLearner(policy, warm, small(), RewardConfig())
    assert same(weights, learner.value.state()["network"])
    learner.update(collect(learner.policy), None, 0)
    assert policy.fingerprint() == before
    assert same(weights, dict(warm.state_dict()))


def test_the_metrics_say_what_the_episodes_and_the_update_were():
    learner = learner_of()
    metrics = learner.update(collect(learner.policy), None, 0)
    assert metrics["episodes"] == 6
    assert metrics["success_rate"] == 0.5
    assert metrics["ticks"] == 36
    assert metrics["operator_ticks"] == 10
    assert metrics["takeovers"] == 4
    assert metrics["operator_windows"] == 10
    assert metrics["operator_segments"] == 2 * (1 + 2)
    assert metrics["decisions"] == 2 * (3 + 2 + 2)
    assert metrics["undone"] == 0.0
    assert learner.problem is None
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"kl", "kl_after", "clip_fraction", "value_explained_variance", "imitation_loss"} <= {*metrics}


def test_the_operators_actions_reach_the_policy_by_imitation_only():
    """With no imitation they leave no trace in the weights, whatever they were."""

    def after(action_scale, weight):
        learner = learner_of(small(imitation_weight=weight))
        collected = collect(learner.policy)
        for each in collected:
            by_operator = each.episode.source == Source.OPERATOR
            each.episode.applied[by_operator] *= action_scale
        learner.update(collected, None, 0)
        return learner.policy.fingerprint()

    assert after(1.0, 0.0) == after(0.5, 0.0)
    assert after(1.0, 1.0) != after(0.5, 1.0)


class Remembering(ValueLearner):
    """Remembers what it was told."""

    def update(self, condition, target, generator, share=1.0):
        self.told = condition, target
        return super().update(condition, target, generator, share)


def remembering(config=None):
    learner = learner_of(config)
    learner.value.__class__ = Remembering
    return learner


def test_the_value_network_learns_from_the_operators_driving_with_lambda_returns():
    learner = remembering(small(gae_lambda=0.5))
    collected = driven(learner.policy, "ppoopp", 1, success=True)
    segments = policy_segments(learner.policy, [collected], learner.reward)
    operator = operator_segments(learner.policy, [collected.episode], learner.reward)
    learner.value(segments.condition)
    at_takeover, handed_back = learner.value(segments.next_condition[:1]), learner.value(operator.next_condition)
    by_hand = torch.cat([0.9**2 * at_takeover, torch.tensor([0.9]), 0.9**2 * handed_back])
    learner.update([collected], None, 0)
    condition, target = learner.value.told
    torch.testing.assert_close(condition, torch.cat([segments.condition, operator.condition]))
    torch.testing.assert_close(target, by_hand)


def test_where_the_operator_drove_all_the_time_the_value_network_learns_from_him():
    learner = remembering()
    before = learner.value.state()["network"]
    metrics = learner.update([driven(learner.policy, "oooo", 1, success=True)], None, 0)
    assert metrics["decisions"] == 0
    assert metrics["operator_segments"] == 2
    assert learner.value.told[1][-1] == pytest.approx(0.9)
    assert not same(before, learner.value.state()["network"])
    assert math.isfinite(metrics["value_loss"])


def test_what_the_operator_earns_changes_neither_the_decisions_nor_their_advantages():
    """The surrogate of an iteration is the same whether or not the value network is then told of their driving."""

    def after(tell):
        learner = learner_of(small(imitation_weight=0.0))
        collected = collect(learner.policy)
        segments = policy_segments(learner.policy, collected, learner.reward)
        operator = operator_segments(learner.policy, [each.episode for each in collected], learner.reward)
        metrics = learner.learn(segments, None, 0, operator if tell else None)
        return learner, metrics

    (told, of_told), (untold, of_untold) = after(True), after(False)
    assert told.policy.fingerprint() == untold.policy.fingerprint()
    assert not same(told.value.state()["network"], untold.value.state()["network"])
    about_them = {"operator_segments", "operator_return_mean", "value_loss"}
    assert {name: value for name, value in of_told.items() if name not in about_them} == {
        name: value for name, value in of_untold.items() if name not in about_them
    }


def test_imitating_corrections_makes_them_likelier():
    config = small(iterations=40, ppo=PpoConfig(learning_rate=3e-3))
    learner = learner_of(config)
    collected = [driven(learner.policy, "oooooo", seed, success=True) for seed in range(4)]
    windows = encoded_windows(learner.policy, [each.episode for each in collected], Source.OPERATOR)
    generator = torch.Generator().manual_seed(3)
    before = float(denoising_loss(learner.policy, windows, generator).detach())
    for iteration in range(20):
        metrics = learner.update(collected, None, iteration)
    assert metrics["decisions"] == 0
    generator = torch.Generator().manual_seed(3)
    assert float(denoising_loss(learner.policy, windows, generator).detach()) < 0.7 * before


def test_the_encoded_imitation_loss_is_the_policys_own():
    policy = start()
    episodes = [driven(policy, "pppppp", 1, success=True).episode]
    windows = encoded_windows(policy, episodes)
    assert windows.valid.sum(1).tolist() == [4, 4, 4, 3, 2, 1]
    batch = {"action": policy.normalizer.unnormalize("action", windows.chunk), "valid": windows.valid}
    for name in policy.config.streams:
        values = torch.from_numpy(episodes[0].per_tick(name))
        batch[f"obs/{name}"] = torch.stack([torch.cat([values[:1], values[:-1]]), values], dim=1)
    own, _ = policy.loss(batch, torch.Generator().manual_seed(5))
    encoded = denoising_loss(policy, windows, torch.Generator().manual_seed(5))
    torch.testing.assert_close(own, encoded)


def test_windows_of_the_operator_end_where_the_policy_takes_over_again():
    policy = start()
    windows = encoded_windows(policy, [driven(policy, "pooppo", 1, success=True).episode], Source.OPERATOR)
    assert windows.valid.tolist() == [[True, True, False, False], [True, False, False, False], [True] + 3 * [False]]
    assert encoded_windows(policy, [driven(policy, "pp", 1, success=True).episode], Source.OPERATOR) is None


def test_a_run_taken_up_after_an_iteration_equals_an_uninterrupted_one():
    whole = learner_of()
    halves = learner_of()
    for iteration in range(2):
        for learner in (whole, halves):
            learner.update(collect(learner.policy, iteration), None, iteration)
    resumed = learner_of()
    resumed.load_state(pickle.loads(pickle.dumps(halves.state())))
    expected = whole.update(collect(whole.policy, 2), None, 2)
    assert resumed.update(collect(resumed.policy, 2), None, 2) == expected
    assert resumed.policy.fingerprint() == whole.policy.fingerprint()
    assert same(resumed.state(), whole.state())


def test_what_is_taken_back_is_learned_anew_more_slowly_and_the_operators_rows_stay_known():
    learner = learner_of()
    before, was = learner.state(), learner.policy.fingerprint()
    learner.update(collect(learner.policy), None, 0)
    shown = learner.state()["operator_windows"]
    assert learner.policy.fingerprint() != was
    learner.take_back(before)
    assert learner.policy.fingerprint() == was
    assert same(learner.state()["operator_windows"], shown)
    assert learner.state()["caution"] == learner.config.undo_factor


def test_an_update_that_explodes_is_undone_and_says_why():
    config = small(kl_undo=1e-9)
    learner = learner_of(config)
    learner.update([driven(learner.policy, "oo", 0, success=True)], None, 0)
    before = learner.state()
    metrics = learner.update(collect(learner.policy), None, 1)
    assert metrics["undone"] == 1.0
    assert "divergence" in learner.problem
    after = learner.state()
    assert same(before["denoiser"], after["denoiser"])
    assert same(before["ppo"], after["ppo"])
    assert same(before["value"]["network"], after["value"]["network"])
    assert after["caution"] == 0.5


def test_a_value_network_that_gives_nan_changes_nothing():
    learner = learner_of()
    learner.update([driven(learner.policy, "pppp", 0, success=True)], None, 0)
    with torch.no_grad():
        next(learner.value.network.parameters()).fill_(float("nan"))
    before = learner.policy.fingerprint()
    metrics = learner.update(collect(learner.policy, 1), None, 1)
    assert metrics["undone"] == 1.0
    assert "NaN" in learner.problem
    assert learner.policy.fingerprint() == before


def test_learning_rates_fall_to_zero_on_a_straight_line():
    config = OnlineConfig(iterations=4)
    assert [config.share_at(iteration) for iteration in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_the_student_follows_the_policy_at_every_iteration():
    config = small(distillation_steps=40, distillation_learning_rate=1e-3)
    student = ConsistencyPolicy.from_teacher(start(seed=3).with_sampling_steps(3))
    learner = learner_of(config, student=student, distillation=distillation_loss)
    losses = [learner.update(collect(learner.policy, i), None, i)["distillation_loss"] for i in range(4)]
    assert losses[-1] < 0.7 * losses[0]
    assert same(learner.state()["student"], dict(student.denoiser.state_dict()))


def test_a_student_without_a_loss_is_refused():
    with pytest.raises(RobotRLError, match="give both or none"):
        learner_of(student=ConsistencyPolicy.from_teacher(start()))


@pytest.mark.parametrize(
    ("setting", "value"), [("iterations", 0), ("gae_lambda", 1.5), ("imitation_weight", -1.0), ("undo_factor", 2.0)]
)
def test_a_setting_that_cannot_work_is_named(setting, value):
    with pytest.raises(RobotRLError, match=f"online.{setting}"):
        learner_of(small(**{setting: value}))
