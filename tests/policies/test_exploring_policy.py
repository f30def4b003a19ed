"""Exploring in closed loop: seeded, remembered exactly, picklable, and never without a density."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from policies.exploring_policy import DeterministicKernel, ExploringPolicy
from policies.history import draw_noise, stack_history
from policies.torch_policy import TorchPolicy
from robot_rl.core.errors import RobotRLError
from tests.policies.tiny_policies import SPEC, random_observation, tiny_policy

STEPS = 5


def exploring_model(**overrides):
    return tiny_policy(**overrides).with_exploration(STEPS, 0.05, 0.3)


def history(seed=1, stamp_ns=0):
    return [random_observation(SPEC, seed, stamp_ns)]


def test_the_same_seed_gives_the_same_chunks_and_another_seed_gives_others():
    policy = ExploringPolicy(exploring_model())
    chunks = []
    for seed in (3, 3, 4):
        policy.reset(seed)
        chunks.append([policy.act(history(each)).values for each in (1, 2)])
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert np.abs(np.array(chunks[0]) - chunks[2]).max() > 1e-3


def test_a_chain_leads_from_the_seeded_noise_to_the_chunk_that_was_given():
    model = exploring_model()
    policy = ExploringPolicy(model)
    policy.reset(5)
    chunk = policy.act(history(stamp_ns=700))
    (chain,) = policy.take_chains()
    assert chain.stamp_ns == chunk.start_ns == 700
    assert chain.states.shape == (STEPS + 1, model.horizon, 3)
    noise = draw_noise(np.random.default_rng(5), (STEPS + 1, model.horizon, 3))
    np.testing.assert_array_equal(chain.states[0], noise[0, 0])
    np.testing.assert_array_equal(model.to_actions(torch.from_numpy(chain.states[-1])).numpy(), chunk.values)


def test_the_remembered_chain_is_the_policys_own_bit_for_bit():
    model = exploring_model().eval()
    policy = ExploringPolicy(model)
    policy.reset(5)
    policy.act(history())
    observations = {
        name: torch.from_numpy(value)
        for name, value in stack_history(history(), model.spec, model.observation_count).items()
    }
    noise = torch.from_numpy(draw_noise(np.random.default_rng(5), (STEPS + 1, model.horizon, 3)))
    with torch.no_grad():
        expected = model.denoise(model.encode(observations), noise).states[0].numpy()
    np.testing.assert_array_equal(policy.take_chains()[0].states, expected)


def test_exploring_makes_the_last_step_noisy_with_the_kernels_own_sigma():
    model = exploring_model()
    policy = ExploringPolicy(model)
    last = []
    for seed in range(200):
        policy.reset(seed)
        policy.act(history())
        states = torch.from_numpy(policy.take_chains()[0].states)
        with torch.no_grad():
            stacked = stack_history(history(), model.spec, model.observation_count)
            condition = model.encode({name: torch.from_numpy(value) for name, value in stacked.items()})
            prediction = model.predict(states[None, -2], STEPS - 1, condition)
        kernel = model.schedule.kernel(states[None, -2], prediction, STEPS - 1)
        last.append(((states[-1] - kernel.mean[0]) / kernel.sigma).numpy())
    assert abs(np.std(last) - 1.0) < 0.05
    assert abs(np.mean(last)) < 0.05


def test_without_exploring_it_acts_as_the_policy_is_deployed():
    model = exploring_model()
    exploring, deployed = ExploringPolicy(model, explore=False), TorchPolicy(model)
    for policy in (exploring, deployed):
        policy.reset(9)
    np.testing.assert_array_equal(exploring.act(history()).values, deployed.act(history()).values)


def test_it_comes_through_a_pickle_unchanged():
    policy = ExploringPolicy(exploring_model())
    policy.reset(2)
    other = pickle.loads(pickle.dumps(policy))
    assert other.fingerprint == policy.fingerprint
    for each in (policy, other):
        each.reset(6)
    np.testing.assert_array_equal(policy.act(history()).values, other.act(history()).values)


def test_training_on_does_not_change_a_policy_that_is_out_exploring():
    model = exploring_model()
    policy = ExploringPolicy(model)
    policy.reset(6)
    before = policy.act(history()).values
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    policy.reset(6)
    np.testing.assert_array_equal(policy.act(history()).values, before)


def test_chains_are_taken_once_and_a_new_episode_begins_without():
    policy = ExploringPolicy(exploring_model())
    policy.reset(1)
    policy.act(history())
    assert len(policy.take_chains()) == 1
    assert policy.take_chains() == []
    policy.act(history())
    policy.reset(2)
    assert policy.take_chains() == []


def test_a_step_without_noise_is_refused_with_what_to_do():
    with pytest.raises(DeterministicKernel, match=r"step 9 of 10 has standard deviation 0.*with_exploration"):
        ExploringPolicy(tiny_policy())


def test_acting_before_the_first_reset_is_refused():
    with pytest.raises(RobotRLError, match="call reset"):
        ExploringPolicy(exploring_model()).act(history())


def test_cameras_are_seen_as_well():
    policy = ExploringPolicy(exploring_model(streams=("state", "camera")))
    policy.reset(0)
    assert np.isfinite(policy.act(history()).values).all()
