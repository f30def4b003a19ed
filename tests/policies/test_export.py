import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from policies import export
from policies.bundle import OUTPUTS, disagreement, read_bundle, read_parity
from policies.denoiser import ResidualBlock
from policies.diffusion import DiffusionPolicy
from policies.export import ExportFailed, check_graph, export_bundle, parity_cases, parity_tolerance, write_graph
from policies.images import ImageScaling
from policies.normalizer import MissingStatistics
from policies.onnx_policy import OnnxPolicy, open_session
from robot_rl.core.errors import RobotRLError
from tests.policies.tiny_policies import EVERYTHING, SPEC, STATISTICS, tiny_config, tiny_policy

KINDS = [
    {"horizon": 1, "execute_horizon": 1},
    {"streams": EVERYTHING, "prediction": "sample", "state_features": 6, "sampling_steps": 2},
    {"streams": EVERYTHING, "denoiser": "unet", "sampling_steps": 2, "eta": 0.0},
    {"timestep_spacing": "trailing", "sampling_steps": 4},
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_holds_the_whole_policy_and_proves_it(kind, tmp_path):
    policy = tiny_policy(**kind)
    bundle = export_bundle(policy, tmp_path / "bundle", provenance={"snapshot": "S"})
    assert read_bundle(tmp_path / "bundle") == bundle
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == ["model.onnx", "parity.npz", "spec.json"]

    cases = read_parity(tmp_path / "bundle")
    assert cases["action"].shape == (8, policy.horizon, 3)
    assert cases["predictions"].shape == (8, *policy.noise_shape)
    for name, spec in policy.spec.observations.items():
        assert cases[f"obs.{name}"].shape == (8, policy.observation_count, *spec.shape)
        assert cases[f"obs.{name}"].dtype == spec.dtype
    acting = OnnxPolicy(tmp_path / "bundle")
    assert disagreement(acting.run, cases, bundle.parity_tolerance) is None
    session = open_session(tmp_path / "bundle" / "model.onnx", 1)
    assert [each.name for each in session.get_inputs()] == [
        *(f"obs.{name}" for name in policy.spec.observations),
        "noise",
    ]
    assert [each.name for each in session.get_outputs()] == list(OUTPUTS)


def test_the_parity_cases_are_torchs_own_samples(tmp_path):
    policy = tiny_policy(EVERYTHING, clean_clip=None, prediction="sample", sampling_steps=2).eval()
    export_bundle(policy, tmp_path / "bundle", provenance={})
    cases = read_parity(tmp_path / "bundle")
    observations = {name: torch.from_numpy(cases[f"obs.{name}"]) for name in EVERYTHING}
    with torch.inference_mode():
        sampled = policy.sample(observations, torch.from_numpy(cases["noise"])).numpy()
    np.testing.assert_allclose(sampled, cases["action"], rtol=1e-4, atol=1e-4)


def test_one_step_can_be_exported_from_a_many_step_policy_which_stays_as_it_was(tmp_path):
    policy = tiny_policy().train()
    before = policy.fingerprint()
    bundle = export_bundle(policy, tmp_path / "bundle", provenance={}, sampling_steps=1)
    assert bundle.sampling_steps == 1
    assert OnnxPolicy(tmp_path / "bundle").bundle.noise_shape == (1, 4, 3)
    assert policy.config.sampling_steps == 10
    assert policy.training
    assert policy.fingerprint() == before == bundle.fingerprint


def broken_normaliser(policy):
    policy.normalizer.scalings["of_state"].centre[1] += 0.02


def broken_image_scaling(policy):
    for module in policy.modules():
        if isinstance(module, ImageScaling):
            module.rows = module.rows.flip(0)


def broken_residual_block(policy):
    for module in policy.modules():
        if isinstance(module, ResidualBlock):
            module.body[2].weight.data[0, 0] += 0.05


def broken_last_timestep(policy):
    policy.schedule.timesteps[-1] += 1


def broken_schedule(policy):
    policy.schedule.table[0, -1] *= 0.99


def broken_action_scale(policy):
    policy.normalizer.scalings["of_action"].half_range[0] *= 1.001


BREAKAGES = [
    broken_normaliser,
    broken_image_scaling,
    broken_residual_block,
    broken_last_timestep,
    broken_schedule,
    broken_action_scale,
]


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_graph_that_computes_something_else_leaves_no_bundle(breakage, tmp_path, monkeypatch):
    def write_broken(policy, path):
        breakage(policy)
        write_graph(policy, path)

    monkeypatch.setattr(export, "write_graph", write_broken)
    with pytest.raises(ExportFailed, match="ONNX graph and torch disagree, so no bundle was written: "):
        export_bundle(tiny_policy(EVERYTHING, sampling_steps=2), tmp_path / "bundle", provenance={})
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_clamping_hides_from_the_action_is_found_in_the_predictions(tmp_path):
    policy = tiny_policy(sampling_steps=2).eval()
    with torch.no_grad():
        policy.denoiser.leave[-1].bias.fill_(100.0)
    cases = parity_cases(policy, 8, np.random.default_rng(0))
    with torch.no_grad():
        policy.denoiser.leave[-1].bias += 0.1
    assert np.array_equal(parity_cases(policy, 8, np.random.default_rng(0))["action"], cases["action"])
    write_graph(policy, tmp_path / "model.onnx")
    with pytest.raises(ExportFailed, match="'predictions' of case 0"):
        check_graph(tmp_path / "model.onnx", cases, parity_tolerance(policy))


def test_a_single_weight_changed_in_the_file_is_found(tmp_path):
    policy = tiny_policy(sampling_steps=2).eval()
    cases = parity_cases(policy, 8, np.random.default_rng(0))
    write_graph(policy, tmp_path / "model.onnx")
    check_graph(tmp_path / "model.onnx", cases, parity_tolerance(policy))
    model = onnx.load(tmp_path / "model.onnx")
    weight = next(each for each in model.graph.initializer if each.name.endswith("enter.weight"))
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] += 0.05
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportFailed):
        check_graph(tmp_path / "model.onnx", cases, parity_tolerance(policy))


def test_an_answer_of_nan_or_of_another_shape_disagrees():
    cases = parity_cases(tiny_policy().eval(), 2, np.random.default_rng(0))
    right = {name: cases[name][:1] for name in OUTPUTS}
    assert disagreement(lambda _: right, cases, 1e-4, count=1) is None
    nan = {**right, "action": np.full_like(right["action"], np.nan)}
    assert "'action' of case 0 deviates by nan" in disagreement(lambda _: nan, cases, 1e-4)
    short = {**right, "predictions": right["predictions"][:, 1:]}
    assert "'predictions' has shape (9, 4, 3)" in disagreement(lambda _: short, cases, 1e-4)


def test_a_constant_action_channel_is_exported_and_stays_constant(tmp_path):
    policy = tiny_policy(sampling_steps=2)
    low, high = (STATISTICS["action"][end].copy() for end in ("min", "max"))
    low[1:] = high[1:]
    policy.set_statistics({**STATISTICS, "action": {"min": low, "max": high}})
    export_bundle(policy, tmp_path / "bundle", provenance={})
    assert np.array_equal(np.unique(read_parity(tmp_path / "bundle")["action"][..., 1:]), [1.0, 3.0])


def test_a_directory_that_is_taken_is_kept_unless_it_is_a_bundle_to_be_replaced(tmp_path):
    directory = tmp_path / "deep" / "bundle"
    policy, other = tiny_policy(sampling_steps=1), tiny_policy(sampling_steps=1, seed=1)
    export_bundle(policy, directory, provenance={})
    with pytest.raises(ExportFailed, match=r"exists: choose another directory, or allow it to be replaced"):
        export_bundle(other, directory, provenance={})
    assert read_bundle(directory).fingerprint == policy.fingerprint()
    export_bundle(other, directory, provenance={}, replace=True)
    assert read_bundle(directory).fingerprint == other.fingerprint()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ExportFailed, match="is not a bundle"):
        export_bundle(other, tmp_path / "mine", provenance={}, replace=True)


def test_a_failed_replacement_keeps_the_old_bundle(tmp_path, monkeypatch):
    policy = tiny_policy(sampling_steps=1)
    export_bundle(policy, tmp_path / "bundle", provenance={})

    def fail(policy, path):
        path.write_bytes(b"half a graph")
        raise RobotRLError("disk full")

    monkeypatch.setattr(export, "write_graph", fail)
    with pytest.raises(RobotRLError, match="disk full"):
        export_bundle(policy, tmp_path / "bundle", provenance={}, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    OnnxPolicy(tmp_path / "bundle")


def test_a_policy_without_statistics_cannot_be_exported(tmp_path):
    with pytest.raises(MissingStatistics):
        export_bundle(DiffusionPolicy(SPEC, tiny_config()), tmp_path / "bundle", provenance={})
