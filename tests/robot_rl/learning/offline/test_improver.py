import dataclasses
import pickle

import pytest
import torch

from robot_rl.core.decision import GateDecision
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.denoising_ppo import PpoConfig
from robot_rl.learning.offline.improver import OfflineConfig, OfflineImprover, executed_rows, improve_offline
from tests.policies.tiny_policies import random_streams, tiny_policy

TARGET = torch.tensor([0.5, -0.5, 0.0])


def start(**overrides):
    return tiny_policy(gain=1.0, horizon=2, execute_horizon=1, prediction="sample", **overrides).eval()


def conditions_of(policy, size=200):
    with torch.no_grad():
        return policy.encode(random_streams(policy, size, torch.Generator().manual_seed(7)))


def small(**overrides):
    ppo = PpoConfig(learning_rate=1e-3, clip=0.2, batch_size=64)
    fields = {"batches": 24, "gate_every": 6, "sampling_steps": 4, "sigma_min": 0.05, "sigma_max": 0.2, "ppo": ppo}
    return OfflineConfig(**{**fields, **overrides})


class Closeness:
    """A critic for which the best action is known."""

    def __init__(self):
        self.seen = []

    def advantage(self, condition, chunk):
        self.seen.append(chunk)
        return -(chunk[:, 0, :2] - TARGET[:2]).square().sum(-1)


class Flat(Closeness):
    def advantage(self, condition, chunk):
        return torch.full((len(chunk),), 0.3)


class Broken(Closeness):
    def advantage(self, condition, chunk):
        return torch.full((len(chunk),), float("nan"))


def worth(policy, conditions, seed=3):
    """Mean closeness of what a policy does, without exploring."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(conditions), *policy.noise_shape, generator=generator)
    with torch.no_grad():
        chunk = policy.denoise(conditions, noise).states[:, -1]
    return float(Closeness().advantage(conditions, executed_rows(policy, chunk)).mean())


class TrueGate:
    """Accepts what is truly better; told to, it refuses some decisions whatever they are."""

    def __init__(self, conditions, refuse=()):
        self.conditions, self.refuse = conditions, set(refuse)
        self.seeds, self.candidates = [], []

    def judge(self, reference, candidate, seed, step=0):
        self.seeds.append(seed)
        self.candidates.append({name: value.clone() for name, value in candidate.denoiser.state_dict().items()})
        old, new = worth(reference, self.conditions, seed), worth(candidate, self.conditions, seed)
        accept = new > old and len(self.seeds) not in self.refuse
        reason = "better" if accept else "refused"
        return GateDecision(accept, reason, "paired", old, new, new - old, new - old, 0.0, {"starts": 1.0}, step)


def test_a_policy_improves_by_a_critic_that_knows_the_best_action():
    policy = start()
    conditions = conditions_of(policy)
    critic = Closeness()
    result = improve_offline(policy, critic, TrueGate(conditions), conditions, small())
    assert [decision.accept for decision in result.decisions] == [True] * 4
    assert [decision.step for decision in result.decisions] == [6, 12, 18, 24]
    assert worth(result.policy, conditions) > worth(policy, conditions) + 0.05
    assert result.reason == "all 24 batches are used up"
    assert all(chunk.shape == (64, 1, 3) and chunk.abs().max() <= 1 for chunk in critic.seen)


def test_the_policy_it_started_from_and_the_encoder_are_left_as_they_were():
    policy = start(state_features=4)
    before = policy.fingerprint()
    conditions = conditions_of(policy)
    result = improve_offline(policy, Closeness(), TrueGate(conditions), conditions, small(batches=6))
    assert policy.fingerprint() == before
    for name, value in policy.encoder.state_dict().items():
        assert torch.equal(value, result.policy.encoder.state_dict()[name])


def same(one, two):
    """Equality of nested states, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_rejection_restores_weights_average_and_optimiser_bit_for_bit(ema_decay):
    policy = start()
    conditions = conditions_of(policy)
    gate = TrueGate(conditions, refuse={2})
    improver = OfflineImprover(policy, Closeness(), gate, conditions, small(ema_decay=ema_decay))
    assert improver.advance().accept
    before = pickle.loads(pickle.dumps(improver.state()))
    assert not improver.advance().accept
    after = improver.state()
    assert same(before["reference"], after["reference"])
    assert same(before["ppo"]["optimizer"], after["ppo"]["optimizer"])
    candidates = [improver._candidate, *([improver._average] if improver._average else [])]
    for each in candidates:
        assert same(before["reference"], dict(each.denoiser.state_dict()))
    assert not same(before["reference"], gate.candidates[1])
    assert after["ppo"]["learning_rate"] == 0.5 * before["ppo"]["learning_rate"]
    assert improver.advance().accept


def test_after_an_acceptance_the_reference_is_what_was_judged():
    policy = start()
    conditions = conditions_of(policy)
    for ema_decay in (None, 0.9):
        gate = TrueGate(conditions)
        improver = OfflineImprover(policy, Closeness(), gate, conditions, small(ema_decay=ema_decay))
        improver.advance()
        assert same(gate.candidates[0], dict(improver.reference.denoiser.state_dict()))
        batch = improver._draw(99)
        new = improver._ppo.log_prob(batch.condition, batch.states)
        assert ((new - batch.old_log_prob).exp() - 1).abs().max() < 1e-5


def test_two_rejections_in_a_row_end_it_with_the_reference_as_it_was():
    policy = start()
    conditions = conditions_of(policy)
    result = improve_offline(policy, Closeness(), TrueGate(conditions, refuse={1, 2}), conditions, small())
    assert len(result.decisions) == 2
    assert "2 candidates in a row were rejected" in result.reason
    assert same(dict(policy.denoiser.state_dict()), dict(result.policy.denoiser.state_dict()))


def test_a_critic_without_preferences_changes_nothing():
    policy = start()
    conditions = conditions_of(policy)
    result = improve_offline(policy, Flat(), TrueGate(conditions), conditions, small())
    assert result.decisions == []
    assert "sees no difference" in result.reason


def test_a_critic_that_gives_nan_never_reaches_the_weights():
    policy = start()
    conditions = conditions_of(policy)
    result = improve_offline(policy, Broken(), TrueGate(conditions), conditions, small())
    assert [decision.accept for decision in result.decisions] == [False, False]
    assert all(decision.evidence["update_diverged"] == 1.0 for decision in result.decisions)
    assert same(dict(policy.denoiser.state_dict()), dict(result.policy.denoiser.state_dict()))


def test_a_run_taken_up_after_a_decision_equals_an_uninterrupted_one():
    policy = start()
    conditions = conditions_of(policy)
    config = small(ema_decay=0.5)
    whole = improve_offline(policy, Closeness(), TrueGate(conditions), conditions, config)
    states = []
    improver = OfflineImprover(policy, Closeness(), TrueGate(conditions), conditions, config)
    for _ in range(2):
        improver.advance()
        states.append(pickle.dumps(improver.state()))
    resumed = OfflineImprover(policy, Closeness(), TrueGate(conditions), conditions, config)
    resumed.load_state(pickle.loads(states[-1]))
    rest = resumed.run()
    assert rest.policy.fingerprint() == whole.policy.fingerprint()
    assert [each.to_json() for each in rest.decisions] == [each.to_json() for each in whole.decisions]


def test_a_state_survives_what_is_done_after_it_was_taken():
    policy = start()
    conditions = conditions_of(policy)
    improver = OfflineImprover(policy, Closeness(), TrueGate(conditions), conditions, small())
    improver.advance()
    state = improver.state()
    frozen = pickle.loads(pickle.dumps(state))
    improver.advance()
    improver.load_state(state)
    improver.advance()
    assert same(state, frozen)


def test_the_second_estimate_and_the_updates_figures_stand_beside_the_decision():
    policy = start()
    conditions = conditions_of(policy)

    def second(reference, candidate):
        return {"fqe_gain": worth(candidate, conditions) - worth(reference, conditions)}

    seen = []
    config = small(batches=6)
    improve_offline(policy, Closeness(), TrueGate(conditions), conditions, config, seen.append, second)
    assert {"fqe_gain", "starts", "update_kl", "update_clip_fraction", "update_advantage_spread"} <= {*seen[0].evidence}
    assert seen[0].evidence["fqe_gain"] > 0


def test_every_decision_is_judged_with_noise_of_its_own():
    policy = start()
    conditions = conditions_of(policy)
    gate = TrueGate(conditions)
    improve_offline(policy, Closeness(), gate, conditions, small())
    assert len(set(gate.seeds)) == 4


@pytest.mark.parametrize("setting", ["batches", "passes", "gate_every", "patience"])
def test_a_setting_that_cannot_work_is_named(setting):
    policy = start()
    with pytest.raises(RobotRLError, match=f"offline.{setting}"):
        OfflineImprover(policy, Closeness(), None, conditions_of(policy), dataclasses.replace(small(), **{setting: 0}))


def test_data_without_states_is_refused():
    policy = start()
    with pytest.raises(RobotRLError, match="no states"):
        OfflineImprover(policy, Closeness(), None, conditions_of(policy)[:0], small())
