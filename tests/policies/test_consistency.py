import dataclasses

import pytest
import torch

from policies.consistency import ConsistencyPolicy, ConsistencyPolicyConfig
from policies.diffusion_config import InvalidPolicyConfig
from policies.export import export_bundle
from policies.flow import FlowPolicy, FlowPolicyConfig
from policies.onnx_policy import OnnxPolicy
from policies.torch_policy import TorchPolicy
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.distillation import teacher_chain
from robot_rl.run.checkpoint import load_policy, save_checkpoint
from tests.policies.tiny_policies import (
    LOW_DIMENSIONAL,
    SPEC,
    STATISTICS,
    random_batch,
    random_observation,
    random_streams,
    tiny_config,
    tiny_policy,
)


def tiny_flow(seed=0, **overrides) -> FlowPolicy:
    torch.manual_seed(seed)
    fields = {each.name: getattr(tiny_config(), each.name) for each in dataclasses.fields(FlowPolicyConfig)}
    policy = FlowPolicy(SPEC, FlowPolicyConfig(**{**fields, "prediction": "velocity", "eta": 0.0, **overrides}))
    policy.set_statistics(STATISTICS)
    return policy


TEACHERS = [
    lambda: tiny_policy(sampling_steps=5, prediction="sample", gain=1.0),
    lambda: tiny_policy(sampling_steps=5, denoiser="unet", clean_clip=None),
    lambda: tiny_policy(horizon=1, execute_horizon=1),
    lambda: tiny_flow(sampling_steps=4),
]


@pytest.mark.parametrize("make", TEACHERS)
def test_before_distillation_a_student_is_its_teacher_to_a_hundredth_at_the_chains_last_step(make):
    teacher = make().eval()
    student = ConsistencyPolicy.from_teacher(teacher)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        condition = teacher.encode(random_streams(teacher, 6, generator))
        assert torch.equal(student.encode(random_streams(teacher, 6, torch.Generator().manual_seed(0))), condition)
        states = teacher_chain(teacher, condition, torch.randn(6, 1, *teacher.noise_shape[1:], generator=generator))
        last = torch.full((6,), teacher.config.sampling_steps - 1)
        torch.testing.assert_close(student.clean(states[:, -2], last, condition), states[:, -1], rtol=0, atol=0.01)


def test_no_error_of_a_students_network_is_magnified_on_the_way_to_its_chunk():
    for make in TEACHERS:
        schedule = ConsistencyPolicy.from_teacher(make()).schedule
        assert all(abs(step.clean_from_prediction) <= 1 for step in schedule.steps)


def test_a_student_acts_in_one_call_of_its_network():
    student = ConsistencyPolicy.from_teacher(tiny_policy()).eval()
    calls = []
    student.denoiser.register_forward_hook(lambda *_: calls.append(1))
    noise = torch.randn(3, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    condition = student.encode(random_streams(student, 3, torch.Generator().manual_seed(1)))
    chain = student.denoise(condition, noise)
    assert len(calls) == 1
    assert student.noise_shape == (1, 4, 3)
    torch.testing.assert_close(chain.states[:, -1], student.clean(noise[:, 0], torch.zeros(3).long(), condition))


@pytest.mark.parametrize("make", [TEACHERS[0], TEACHERS[3]])
def test_a_saved_student_loads_exports_and_acts_alike_in_torch_and_onnx(make, tmp_path):
    student = ConsistencyPolicy.from_teacher(make()).eval()
    record = {
        "class": "policies.consistency.ConsistencyPolicy",
        "config": student.config.to_json(),
        "spec": student.spec.to_json(),
    }
    save_checkpoint(tmp_path / "run", 1, student, {}, record)
    loaded = load_policy(tmp_path / "run")
    assert isinstance(loaded, ConsistencyPolicy)
    assert loaded.fingerprint() == student.fingerprint()
    bundle = export_bundle(loaded, tmp_path / "bundle", provenance={})
    assert bundle.sampling_steps == 1
    torch_policy, onnx_policy = TorchPolicy(loaded), OnnxPolicy(tmp_path / "bundle")
    observation = random_observation(SPEC.select(LOW_DIMENSIONAL), 0)
    for policy in (torch_policy, onnx_policy):
        policy.reset(3)
    # The gripper's channel is decided by a threshold; the others are continuous.
    ours, theirs = (policy.act([observation]).values[:, :2] for policy in (torch_policy, onnx_policy))
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_what_cannot_be_a_teacher_is_refused():
    student = ConsistencyPolicy.from_teacher(tiny_policy())
    with pytest.raises(InvalidPolicyConfig, match="a one-step student itself: distil the policy it was made from"):
        ConsistencyPolicy.from_teacher(student)
    with pytest.raises(InvalidPolicyConfig, match="teacher_steps is 1, wanted 2 to 100"):
        ConsistencyPolicy.from_teacher(tiny_policy(sampling_steps=1))


def test_what_a_student_cannot_do_is_refused_with_the_way_out():
    student = ConsistencyPolicy.from_teacher(tiny_policy())
    with pytest.raises(InvalidPolicyConfig, match="acts in 1 step: for more, use its teacher"):
        student.with_sampling_steps(4)
    with pytest.raises(RobotRLError, match="explore with its teacher"):
        student.with_exploration(1, 0.02, 0.1)
    with pytest.raises(RobotRLError, match="train its teacher, then `robot-rl distill`"):
        student.loss(random_batch(tiny_policy()), torch.Generator())
    with pytest.raises(RobotRLError, match="sigma 0 and so no density"):
        student.log_prob(torch.zeros(2, student.encoder.output_size), torch.zeros(2, 2, 4, 3))


def test_a_students_config_survives_json():
    config = ConsistencyPolicy.from_teacher(tiny_policy()).config
    assert ConsistencyPolicyConfig.from_json(config.to_json()) == config


def test_a_student_of_a_policy_that_is_none_of_ours_is_refused():
    with pytest.raises(InvalidPolicyConfig, match="which Linear does not inherit from"):
        ConsistencyPolicy.from_teacher(torch.nn.Linear(2, 2))
