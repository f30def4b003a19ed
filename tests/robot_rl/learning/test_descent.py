import contextlib
import math
import pickle

import accelerate
import pytest
import torch
from torch import nn

from robot_rl.learning.descent import Descent, Diverged, follow
from robot_rl.learning.randomness import evaluating, first_weights, step_generator


def line(value=1.0):
    return nn.Parameter(torch.tensor([value, -value]))


def descent_of(weight, **options):
    return Descent("the line", torch.optim.AdamW([weight], 0.1, weight_decay=0.0), "take a smaller one", **options)


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_loss_or_a_gradient_that_is_not_finite_changes_neither_a_weight_nor_the_optimiser(number, clip, accelerated):
    weight = line()
    optimizer = torch.optim.AdamW([weight], 0.1)
    accelerator = accelerate.Accelerator(cpu=True) if accelerated else None
    if accelerator is not None:
        optimizer = accelerator.prepare(optimizer)
    descent = Descent("the line", optimizer, "take a smaller one", clip, accelerator)
    descent.step(weight.square().sum(), 0.2)
    before, state = weight.detach().clone(), pickle.dumps(descent.state())
    for loss in (weight.sum() * number, weight.sum() + number, (weight.detach().sum() * weight * number).sum()):
        with pytest.raises(Diverged, match=r"the line: the loss is .* at step 2, .*: take a smaller one"):
            descent.step(loss, 0.3)
    assert torch.equal(weight, before)
    assert pickle.dumps(descent.state()) == state
    descent.step(weight.square().sum())
    assert not torch.equal(weight, before)


def test_a_step_is_the_optimisers_own_on_the_clipped_gradient():
    ours, theirs = line(3.0), line(3.0)
    descent, optimizer = descent_of(ours, clip=0.5), torch.optim.AdamW([theirs], 0.1, weight_decay=0.0)
    for step in range(3):
        norm = descent.step(ours.square().sum(), 0.1 / (step + 1))
        optimizer.zero_grad()
        theirs.square().sum().backward()
        assert norm == pytest.approx(float(theirs.grad.norm()))
        nn.utils.clip_grad_norm_([theirs], 0.5)
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step()
    assert torch.equal(ours, theirs)


def test_a_state_survives_being_loaded_and_goes_on_where_it_was():
    weight = line()
    descent = descent_of(weight)
    descent.step(weight.square().sum())
    kept, state = weight.detach().clone(), pickle.loads(pickle.dumps(descent.state()))
    descent.step(weight.square().sum())
    again = nn.Parameter(kept.clone())
    other = descent_of(again)
    for _ in range(2):
        again.data.copy_(kept)
        other.load_state(state)
        other.step(again.square().sum())
    assert torch.equal(again, weight)


def test_a_slow_copy_goes_a_share_of_the_way():
    slow, fast = nn.Linear(2, 1), nn.Linear(2, 1)
    expected = 0.75 * slow.weight + 0.25 * fast.weight
    follow(slow, fast, 0.25)
    torch.testing.assert_close(slow.weight, expected)


def test_first_weights_are_the_seeds_and_leave_the_process_as_it_was():
    before = torch.random.get_rng_state()
    with first_weights(3):
        one = nn.Linear(2, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    with first_weights(3):
        assert torch.equal(nn.Linear(2, 2).weight, one.weight)


def test_a_steps_randomness_depends_on_every_number_and_on_nothing_else():
    device = torch.device("cpu")
    drawn = {step_generator(device, *numbers).initial_seed() for numbers in ((0, 1), (1, 0), (0, 1, 1), (0, 2))}
    assert len(drawn) == 4
    assert step_generator(device, 0, 1).initial_seed() in drawn


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_a_module_is_left_as_it_was_even_after_an_error(training):
    module = nn.Dropout().train(training)
    with contextlib.suppress(KeyError), evaluating(module):
        assert not module.training
        raise KeyError
    assert module.training == training
