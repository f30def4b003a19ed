"""The two ways to run a policy in closed loop: they must be the same policy."""

import json
import subprocess
import sys

import numpy as np
import pytest

from policies.bundle import InvalidBundle, read_bundle, read_parity
from policies.export import export_bundle
from policies.normalizer import MissingStatistics
from policies.onnx_policy import OnnxPolicy
from policies.torch_policy import TorchPolicy
from robot_rl.core.protocols import Policy
from tests.policies.tiny_policies import EVERYTHING, SPEC, random_observation, tiny_policy

SEEN = SPEC.select(EVERYTHING)


@pytest.fixture(scope="module")
def policy():
    return tiny_policy(EVERYTHING, denoiser="unet", sampling_steps=3)


@pytest.fixture(scope="module")
def bundle_directory(policy, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported") / "bundle"
    export_bundle(policy, directory, provenance={"dataset": "here", "snapshot": "ABC"})
    return directory


def roll_out(acting: Policy, seed: int, ticks: int = 5):
    acting.reset(seed)
    seen = [random_observation(SPEC, tick, stamp_ns=tick * SPEC.tick_ns) for tick in range(ticks)]
    return [acting.act(seen[: tick + 1]) for tick in range(ticks)]


def test_torch_and_onnx_give_the_same_actions_for_the_same_seed(policy, bundle_directory):
    in_torch, in_onnx = TorchPolicy(policy), OnnxPolicy(bundle_directory)
    assert in_torch.fingerprint == in_onnx.fingerprint
    assert in_torch.spec == in_onnx.spec == SEEN
    assert (in_torch.observation_count, in_torch.execute_horizon) == (in_onnx.observation_count, 2)
    for ours, theirs in zip(roll_out(in_torch, 7), roll_out(in_onnx, 7), strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-4, atol=1e-4)
        assert ours.start_ns == theirs.start_ns


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_seed_decides_the_actions_and_reset_forgets_the_episode_before(kind, policy, bundle_directory):
    acting = TorchPolicy(policy) if kind == "torch" else OnnxPolicy(bundle_directory)
    first, other, again = (np.stack([chunk.values for chunk in roll_out(acting, seed)]) for seed in (1, 2, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_a_chunk_starts_at_the_newest_observations_tick_in_the_actions_type(kind, policy, bundle_directory):
    acting = TorchPolicy(policy) if kind == "torch" else OnnxPolicy(bundle_directory)
    chunk = roll_out(acting, 0)[-1]
    assert chunk.start_ns == 4 * SPEC.tick_ns
    assert chunk.values.shape == (4, 3)
    assert chunk.values.dtype == np.float32


def test_acting_does_not_crop_at_random(policy):
    acting = TorchPolicy(policy.train())
    assert not policy.training
    assert np.array_equal(roll_out(acting, 0)[2].values, roll_out(acting, 0)[2].values)


def test_a_policy_without_statistics_cannot_act(policy):
    with pytest.raises(MissingStatistics):
        TorchPolicy(type(policy)(SPEC, policy.config))


def test_running_a_bundle_imports_no_torch(bundle_directory):
    code = (
        "import sys, numpy as np\nfrom policies.onnx_policy import OnnxPolicy\n"
        "from robot_rl.core.episode import Observation\n"
        f"policy = OnnxPolicy({str(bundle_directory)!r})\n"
        "values = {n: np.zeros(s.shape, s.dtype) for n, s in policy.spec.observations.items()}\n"
        "assert policy.act([Observation(0, values, {})]).values.shape == (4, 3)\n"
        "sys.exit(', '.join({'torch', 'diffusers'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def damaged(bundle_directory, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle_directory.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def rewrite_spec(directory, **changes):
    document = json.loads((directory / "spec.json").read_text())
    document.update(changes)
    kept = {key: value for key, value in document.items() if value is not None}
    (directory / "spec.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("name", ["spec.json", "model.onnx", "parity.npz"])
def test_a_missing_file_names_itself_and_the_command_that_makes_it(name, bundle_directory, tmp_path):
    copy = damaged(bundle_directory, tmp_path)
    (copy / name).unlink()
    with pytest.raises(InvalidBundle, match=rf"no {name} in .*robot-rl export"):
        OnnxPolicy(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, "version 99, this software reads 'robot-rl policy bundle' 1"),
        ({"format": "something"}, "it says 'something' version 1"),
        ({"fingerprint": None, "horizon": None}, "it lacks horizon, fingerprint"),
    ],
)
def test_a_bundle_of_other_software_is_refused(changes, message, bundle_directory, tmp_path):
    copy = damaged(bundle_directory, tmp_path)
    rewrite_spec(copy, **changes)
    with pytest.raises(InvalidBundle, match=message):
        OnnxPolicy(copy)


def test_a_changed_or_truncated_model_is_refused(bundle_directory, tmp_path):
    copy = damaged(bundle_directory, tmp_path)
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(InvalidBundle, match="changed or copied in part"):
        OnnxPolicy(copy)


@pytest.mark.parametrize("name", ["spec.json", "parity.npz"])
def test_a_truncated_companion_is_refused(name, bundle_directory, tmp_path):
    copy = damaged(bundle_directory, tmp_path)
    (copy / name).write_bytes((copy / name).read_bytes()[:50])
    with pytest.raises(InvalidBundle, match=f"cannot read .*{name}.*export the policy again"):
        OnnxPolicy(copy)


def test_a_machine_that_computes_something_else_refuses_to_act(bundle_directory, tmp_path):
    copy = damaged(bundle_directory, tmp_path)
    cases = read_parity(copy)
    cases["predictions"][0, -1] += 0.01
    np.savez(copy / "parity.npz", **cases)
    with pytest.raises(InvalidBundle, match="'predictions' of case 0 deviates by"):
        OnnxPolicy(copy)


def test_provenance_is_kept(policy, bundle_directory):
    bundle = read_bundle(bundle_directory)
    assert bundle.provenance == {"dataset": "here", "snapshot": "ABC"}
    assert bundle.noise_shape == policy.noise_shape
