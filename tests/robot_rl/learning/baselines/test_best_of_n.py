import pickle

import numpy as np
import pytest
import torch

from policies.history import draw_noise, stack_history
from policies.torch_policy import TorchPolicy
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.baselines.best_of_n import BestOfN
from robot_rl.learning.offline.critic import CriticConfig, IqlCritic
from tests.policies.tiny_policies import SPEC, random_observation, tiny_policy

HISTORY = [random_observation(SPEC, seed=1), random_observation(SPEC, seed=2, stamp_ns=5)]
CONDITION_SIZE = tiny_policy().encoder.output_size


class LikesLargeFirstActions(IqlCritic):
    """Q grows with the first executed action of a chunk; the second twin is the sterner one."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(CONDITION_SIZE, 2, 3, CriticConfig(width=8))
        self.gain = gain

    def q(self, condition, chunk):
        assert chunk.shape[1:] == (2, 3)
        worth = self.gain * chunk[:, 0, 0]
        return torch.stack([worth + 1, worth])


def trained_critic() -> IqlCritic:
    torch.manual_seed(0)
    critic = IqlCritic(CONDITION_SIZE, 2, 3, CriticConfig(width=8))
    for weight in critic.parameters():
        torch.nn.init.normal_(weight)
    return critic


def sampled(policy, samples: int, seed: int) -> np.ndarray:
    """The chunks that a policy draws one after the other from one seed. Shape (S, H, A)."""
    generator = np.random.default_rng(seed)
    arrays = stack_history(HISTORY, policy.spec, policy.observation_count)
    observations = {name: torch.from_numpy(array) for name, array in arrays.items()}
    noise = [torch.from_numpy(draw_noise(generator, policy.noise_shape)) for _ in range(samples)]
    with torch.inference_mode():
        return np.concatenate([policy.sample(observations, each).numpy() for each in noise])


@pytest.mark.parametrize(("gain", "pick"), [(1.0, np.argmax), (-1.0, np.argmin)])
def test_the_chunk_that_the_critic_likes_best_is_executed(gain, pick):
    acting = BestOfN(tiny_policy(), LikesLargeFirstActions(gain), samples=8)
    acting.reset(3)
    chunks = sampled(tiny_policy(), 8, seed=3)
    chunk = acting.act(HISTORY)
    np.testing.assert_allclose(chunk.values, chunks[pick(chunks[:, 0, 0])], atol=1e-5)
    assert (chunk.start_ns, chunk.values.dtype, acting.execute_horizon) == (5, np.float32, 2)


def test_the_smaller_q_decides():
    class Disagreeing(LikesLargeFirstActions):
        def q(self, condition, chunk):
            likes = chunk[:, 0, 0]
            return torch.stack([100 * likes, -likes])

    acting = BestOfN(tiny_policy(), Disagreeing(), samples=8)
    acting.reset(3)
    first = torch.from_numpy(sampled(tiny_policy(), 8, seed=3)[:, 0])
    likes = tiny_policy().normalizer.normalize("action", first)[:, 0]
    best = torch.minimum(100 * likes, -likes).argmax()
    np.testing.assert_allclose(acting.act(HISTORY).values[0], first[best], atol=1e-5)


@pytest.mark.parametrize(("critic", "samples"), [(LikesLargeFirstActions(), 1), (LikesLargeFirstActions(0.0), 5)])
def test_with_nothing_to_choose_it_acts_as_the_policy_alone(critic, samples):
    alone, acting = TorchPolicy(tiny_policy()), BestOfN(tiny_policy(), critic, samples)
    alone.reset(7)
    acting.reset(7)
    np.testing.assert_allclose(acting.act(HISTORY).values, alone.act(HISTORY).values, atol=1e-6)


def test_one_seed_gives_one_behaviour_and_a_pickled_copy_goes_on_alike():
    acting = BestOfN(tiny_policy(), trained_critic(), samples=4)
    acting.reset(1)
    first = acting.act(HISTORY).values
    copied = pickle.loads(pickle.dumps(acting))
    assert np.array_equal(copied.act(HISTORY).values, acting.act(HISTORY).values)
    acting.reset(1)
    assert np.array_equal(acting.act(HISTORY).values, first)
    acting.reset(2)
    assert not np.array_equal(acting.act(HISTORY).values, first)


def test_the_fingerprint_tells_policies_critics_and_numbers_of_samples_apart():
    variants = [
        BestOfN(tiny_policy(), trained_critic(), 4),
        BestOfN(tiny_policy(), trained_critic(), 5),
        BestOfN(tiny_policy(seed=1), trained_critic(), 4),
        BestOfN(tiny_policy(), IqlCritic(CONDITION_SIZE, 2, 3, CriticConfig(width=8)), 4),
    ]
    assert len({each.fingerprint for each in variants}) == 4
    assert variants[0].fingerprint == BestOfN(tiny_policy(), trained_critic(), 4).fingerprint


def test_a_critic_that_gives_nan_chooses_nothing():
    acting = BestOfN(tiny_policy(), LikesLargeFirstActions(float("nan")), samples=2)
    with pytest.raises(RobotRLError, match="NaN"):
        acting.act(HISTORY)


def test_fewer_than_one_sample_are_refused():
    with pytest.raises(RobotRLError, match="best of 0 samples"):
        BestOfN(tiny_policy(), trained_critic(), samples=0)
