import torch
from torch import nn

from policies.value import EnsembleLayerNorm, EnsembleLinear, QEnsemble, QNetwork, Standardizer, ValueNetwork


def stir(network: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


def test_a_member_of_an_ensemble_layer_computes_what_a_linear_layer_would():
    layer, norm = EnsembleLinear(3, 5, 4), EnsembleLayerNorm(3, 4)
    stir(norm)
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    for member, found in enumerate(norm(layer(features))):
        linear = nn.functional.linear(features, layer.weight[member].T, layer.bias[member, 0])
        wanted = nn.functional.layer_norm(linear, (4,), norm.weight[member, 0], norm.bias[member, 0])
        torch.testing.assert_close(found, wanted)
    own = torch.stack([features, 2 * features, 3 * features])
    torch.testing.assert_close(layer(own)[1], layer(2 * features)[1])


def test_no_member_learns_from_another_members_loss():
    twins = QEnsemble(2, 4, 2, 3, width=8)
    stir(twins)
    twins(torch.ones(5, 4), torch.ones(5, 2, 3))[0].sum().backward()
    for weight in twins.parameters():
        assert weight.grad[0].any()
        assert not weight.grad[1].any()


def test_values_have_one_number_per_sample_and_begin_at_zero():
    condition, chunk = torch.randn(6, 4), torch.randn(6, 2, 3)
    for network, arguments in ((ValueNetwork(4, 8), (condition,)), (QNetwork(4, 2, 3, 8), (condition, chunk))):
        assert torch.equal(network(*arguments), torch.zeros(6))
        stir(network)
        assert len(network(*arguments).unique()) == 6
        torch.testing.assert_close(network(*(each[2:3] for each in arguments)), network(*arguments)[2:3])


def test_encodings_are_standardised_and_constant_elements_are_not_blown_up():
    standardizer = Standardizer(3)
    data = torch.tensor([[1.0, 5.0, 100.0], [3.0, 5.0, 200.0]])
    torch.testing.assert_close(standardizer(data), data)
    standardizer.fit(data)
    torch.testing.assert_close(standardizer(data), torch.tensor([[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]]))
    torch.testing.assert_close(standardizer(torch.tensor([[2.0, 5.001, 150.0]])), torch.tensor([[0.0, 0.001, 0.0]]))


def test_the_range_of_the_encodings_travels_with_the_weights():
    one, other = QNetwork(4, 2, 3, 8), QNetwork(4, 2, 3, 8)
    stir(one)
    one.standardizer.fit(torch.randn(20, 4) * 5 + 3)
    other.load_state_dict(one.state_dict())
    condition, chunk = torch.randn(6, 4), torch.randn(6, 2, 3)
    assert torch.equal(one(condition, chunk), other(condition, chunk))
