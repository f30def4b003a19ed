"""What learning asks of a policy is what ours have, and whoever lacks some of it is told what."""

import pytest
import torch

from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy
from policies.flow import FlowPolicy, FlowPolicyConfig
from policies.trainable import NotTrainable, require_denoising, require_trainable
from tests.policies.tiny_policies import LOW_DIMENSIONAL, SPEC, random_batch, random_streams, tiny_policy


def every_policy():
    diffusion = tiny_policy()
    flow = FlowPolicy(SPEC, FlowPolicyConfig(streams=LOW_DIMENSIONAL, horizon=4, execute_horizon=2))
    return [diffusion, flow, ConsistencyPolicy.from_teacher(diffusion)]


@pytest.mark.parametrize("policy", every_policy(), ids=lambda policy: type(policy).__name__)
def test_our_policies_have_all_that_learning_asks_for(policy):
    assert require_trainable(policy) is policy
    assert require_denoising(policy) is policy


@pytest.mark.parametrize("kind", [DiffusionPolicy, FlowPolicy, ConsistencyPolicy])
def test_a_policy_describes_itself_in_plain_numbers(kind):
    policy = next(each for each in every_policy() if type(each) is kind)
    steps, horizon, _ = policy.noise_shape
    assert policy.device == torch.device("cpu")
    assert len(policy.sigmas) == steps
    assert horizon == policy.horizon
    assert policy.prediction_gain > 0
    assert policy.config.image_size == policy.config.camera.image_size


def test_sampling_is_the_end_of_the_chain():
    policy = tiny_policy().eval()
    generator = torch.Generator().manual_seed(0)
    streams = random_streams(policy, 3, generator)
    noise = torch.randn(3, *policy.noise_shape, generator=generator)
    condition = policy.encode(streams)
    assert condition.shape == (3, policy.condition_size)
    chain = policy.denoise(condition, noise)
    assert torch.equal(policy.sample(streams, noise), policy.to_actions(chain.states[:, -1]))


def test_calling_a_policy_is_its_loss():
    policy = tiny_policy().eval()
    batch = random_batch(policy)
    called, _ = policy(batch, torch.Generator().manual_seed(0))
    loss, _ = policy.loss(batch, torch.Generator().manual_seed(0))
    assert called == loss


class Imitator(torch.nn.Module):
    """A policy that imitates but has no chain of denoising steps."""

    spec = SPEC
    config = normalizer = set_statistics = loss = sample = fingerprint = None
    observation_count = horizon = execute_horizon = 1
    noise_shape = (1, 1, 3)
    device = torch.device("cpu")


def test_a_policy_without_a_chain_is_told_what_it_lacks():
    policy = require_trainable(Imitator())
    with pytest.raises(NotTrainable, match=r"Imitator cannot be improved or exported: it lacks encoder, denoiser, .*"):
        require_denoising(policy)


def test_a_module_that_is_no_policy_is_told_what_it_lacks():
    with pytest.raises(NotTrainable, match="Linear cannot be trained: it lacks spec, config"):
        require_trainable(torch.nn.Linear(2, 2))
