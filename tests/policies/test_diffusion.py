import json

import pytest
import torch

from policies.diffusion import DiffusionPolicy, hold_last_valid
from policies.diffusion_config import InvalidPolicyConfig
from policies.normalizer import MissingStatistics
from robot_rl.core.errors import RobotRLError, SpecMismatch
from tests.policies.tiny_policies import (
    EVERYTHING,
    LOW_DIMENSIONAL,
    SPEC,
    STATISTICS,
    random_batch,
    tiny_config,
    tiny_policy,
)

KINDS = [
    {"horizon": 1, "execute_horizon": 1},
    {},
    {"denoiser": "unet", "prediction": "sample"},
    {"streams": EVERYTHING},
    {"streams": EVERYTHING, "denoiser": "unet", "state_features": 5, "observation_count": 1},
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def observations(policy, batch):
    return {name: batch[f"obs/{name}"] for name in policy.config.streams}


def noise_for(policy, size=6, seed=0):
    return torch.randn(size, *policy.noise_shape, generator=seeded(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_a_number_whose_gradient_reaches_every_parameter(kind):
    policy = tiny_policy(**kind)
    loss, metrics = policy(random_batch(policy), seeded())
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert not metrics["loss"].requires_grad
    loss.backward()
    for name, weight in policy.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_chunks_in_robot_units_within_the_data(kind):
    policy = tiny_policy(**kind).eval()
    batch = random_batch(policy)
    actions = policy.sample(observations(policy, batch), noise_for(policy))
    assert actions.shape == (6, policy.horizon, 3)
    low, high = (torch.from_numpy(STATISTICS["action"][end]).float() for end in ("min", "max"))
    slack = 1e-5 * (high - low)
    assert (actions >= low - slack).all()
    assert (actions <= high + slack).all()


@pytest.mark.parametrize("denoiser", ["mlp", "unet"])
@pytest.mark.parametrize("filler", [0.0, 1e6, float("nan")])
def test_rows_beyond_an_episodes_end_do_not_influence_the_loss(denoiser, filler):
    policy = tiny_policy(denoiser=denoiser)
    batch = random_batch(policy)
    batch["valid"][0, 2:] = False
    batch["valid"][3, 1:] = False
    loss, metrics = policy.loss(batch, seeded())
    loss.backward()
    gradients = [weight.grad.clone() for weight in policy.parameters()]
    policy.zero_grad()
    batch["action"][~batch["valid"]] = filler
    again, _ = policy.loss(batch, seeded())
    again.backward()
    assert torch.equal(loss, again)
    assert all(torch.equal(old, weight.grad) for old, weight in zip(gradients, policy.parameters(), strict=True))
    assert metrics["valid_fraction"].item() == pytest.approx(19 / 24)


def test_the_loss_is_the_mean_over_valid_elements():
    policy = tiny_policy(prediction="sample", gain=0.0)
    batch = random_batch(policy)
    batch["valid"][:, 3] = False
    clean = policy.normalizer.normalize("action", batch["action"])[:, :3]
    loss, _ = policy.loss(batch, seeded())
    torch.testing.assert_close(loss, clean.square().mean())


def test_padding_is_replaced_by_the_last_valid_action():
    action = torch.arange(8.0).reshape(2, 4, 1)
    valid = torch.tensor([[True, True, False, False], [True, True, True, True]])
    assert hold_last_valid(action, valid).squeeze(-1).tolist() == [[0.0, 1.0, 1.0, 1.0], [4.0, 5.0, 6.0, 7.0]]


@pytest.mark.parametrize("streams", [LOW_DIMENSIONAL, EVERYTHING])
def test_the_generator_decides_the_loss(streams):
    policy = tiny_policy(streams)
    batch = random_batch(policy)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(losses))
        losses.append(policy.loss(batch, seeded(seed))[0])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_crops_are_random_in_training_mode_only():
    policy = tiny_policy(("camera",))
    batch = random_batch(policy)
    batch["obs/camera"][..., 2:-2, 4:-4, :] = 128
    batch["obs/camera"] = batch["obs/camera"][:, :, :10, :10]
    frames = observations(policy, batch)
    central = policy.encode(frames)
    assert not torch.equal(policy.encode(frames, seeded(1)), central)
    assert not torch.equal(policy.encode(frames, seeded(1)), policy.encode(frames, seeded(2)))
    encoded, encode = [], policy.encoder.encode
    policy.encoder.encode = lambda normalized, frames, generator: (
        encoded.append(generator) or encode(normalized, frames, generator)
    )
    for mode in (True, False):
        policy.train(mode).loss(batch, seeded())
        policy.sample(frames, noise_for(policy))
    assert [generator is None for generator in encoded] == [False, True, True, True]


def test_sampling_is_a_function_of_observation_and_noise():
    policy = tiny_policy().eval()
    frames = observations(policy, random_batch(policy))
    first, again, other = (policy.sample(frames, noise_for(policy, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_batch_is_sampled_as_its_parts_are():
    policy = tiny_policy(EVERYTHING, denoiser="unet").eval()
    frames = observations(policy, random_batch(policy))
    noise = noise_for(policy)
    together = policy.sample(frames, noise)
    alone = policy.sample({name: values[2:3] for name, values in frames.items()}, noise[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-4)


def test_the_chain_is_that_of_the_kernel():
    policy = tiny_policy(sigma_min=0.05, sigma_max=0.3).eval()
    condition = policy.encode(observations(policy, random_batch(policy)))
    noise = torch.randn(6, 11, 4, 3, generator=seeded())
    states, predictions = policy.denoise(condition, noise)
    assert states.shape == (6, 11, 4, 3)
    for step in range(10):
        mean, sigma = policy.schedule.kernel(states[:, step], predictions[:, step], step)
        torch.testing.assert_close(states[:, step + 1], mean + sigma * noise[:, step + 1])
    steps = torch.tensor([9, 0, 4, 4, 1, 8])
    chosen = torch.arange(6), steps
    torch.testing.assert_close(policy.predict(states[chosen], steps, condition), predictions[chosen])
    shorter = policy.denoise(condition, noise[:, :10]).states
    torch.testing.assert_close(shorter[:, :-1], states[:, :-1])
    torch.testing.assert_close(shorter[:, -1], mean)


def test_binary_channels_hold_one_of_their_two_values():
    policy = tiny_policy().eval()
    actions = policy.sample(observations(policy, random_batch(policy)), noise_for(policy))
    assert set(actions[..., 2].unique().tolist()) == {0.0, 1.0}
    decided = policy.to_actions(torch.tensor([[[0.0, 0.0, -0.01], [0.0, 0.0, 0.01]]]))
    assert decided[0, :, 2].tolist() == [0.0, 1.0]


def test_a_policy_without_statistics_neither_learns_nor_acts():
    fitted = tiny_policy()
    batch = random_batch(fitted)
    policy = DiffusionPolicy(SPEC, tiny_config())
    for attempt in (
        lambda: policy.loss(batch, seeded()),
        lambda: policy.sample(observations(policy, batch), noise_for(policy)),
    ):
        with pytest.raises(MissingStatistics, match="call set_statistics, or load weights"):
            attempt()


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_rebuilt_from_its_json_and_weights_acts_the_same(kind):
    policy = tiny_policy(**kind).eval()
    document = json.loads(json.dumps({"config": policy.config.to_json(), "spec": policy.spec.to_json()}))
    config = type(policy.config).from_json(document["config"])
    other = DiffusionPolicy(type(SPEC).from_json(document["spec"]), config).eval()
    assert other.fingerprint() != policy.fingerprint()
    other.load_state_dict({key: value.clone() for key, value in policy.state_dict().items()})
    assert other.fingerprint() == policy.fingerprint()
    frames = observations(policy, random_batch(policy))
    assert torch.equal(other.sample(frames, noise_for(policy)), policy.sample(frames, noise_for(policy)))


def test_the_fingerprint_sees_every_weight_and_statistic():
    prints = {tiny_policy().fingerprint()}
    for name in tiny_policy().state_dict():
        changed = tiny_policy()
        tensor = changed.state_dict()[name]
        tensor.copy_(~tensor if tensor.dtype == torch.bool else tensor + 1)
        prints.add(changed.fingerprint())
    assert len(prints) == len(tiny_policy().state_dict()) + 1
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in prints)


def test_other_sampling_steps_keep_the_weights_and_leave_the_original_alone():
    policy = tiny_policy().eval()
    frames = observations(policy, random_batch(policy))
    before = policy.sample(frames, noise_for(policy))
    single = policy.with_sampling_steps(1)
    assert single.noise_shape == (1, 4, 3)
    assert single.sample(frames, noise_for(single)).shape == (6, 4, 3)
    assert single.fingerprint() == policy.fingerprint()
    assert torch.equal(policy.sample(frames, noise_for(policy)), before)
    with pytest.raises(InvalidPolicyConfig, match="sampling_steps is 101"):
        policy.with_sampling_steps(101)


def test_a_stream_that_the_robot_lacks_is_named():
    with pytest.raises(SpecMismatch, match="no stream 'depth' on robot 'tiny'; it has state, keypoint, camera"):
        DiffusionPolicy(SPEC, tiny_config(("depth",)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch: batch.update(action=batch["action"][:, :3]), r"'action' has shape \(6, 3, 3\), wanted"),
        (lambda batch: batch.update(valid=batch["valid"][:, :3]), r"'valid' has shape \(6, 3\), wanted \(B, 4\)"),
        (
            lambda batch: batch.update({"obs/state": batch["obs/state"][:, :1]}),
            "'state' holds 1 observations, wanted 2",
        ),
        (lambda batch: batch.pop("obs/state"), "no observation of stream 'state'; the batch has keypoint"),
    ],
)
def test_a_batch_of_the_wrong_shape_is_refused(spoil, message):
    policy = tiny_policy()
    batch = random_batch(policy)
    spoil(batch)
    with pytest.raises(RobotRLError, match=message):
        policy.loss(batch, seeded())


@pytest.mark.parametrize("shape", [(6, 9, 4, 3), (6, 12, 4, 3), (6, 10, 3, 3)])
def test_noise_of_the_wrong_shape_is_refused(shape):
    policy = tiny_policy()
    with pytest.raises(RobotRLError, match=r"wanted \(B, \*\(10, 4, 3\)\) for K, H, A"):
        policy.sample(observations(policy, random_batch(policy)), torch.zeros(shape))


def test_mixed_precision_keeps_the_loss_in_float32():
    policy = tiny_policy(EVERYTHING, denoiser="unet")
    batch = random_batch(policy)
    exact, _ = policy.loss(batch, seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = policy.loss(batch, seeded())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
