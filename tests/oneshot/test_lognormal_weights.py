"""Log-normal weights against their moments, and the weights that a supernet uses."""

from __future__ import annotations

import copy

import pytest
import torch
from nni.mutable import frozen_context
from torch import nn
from torch.testing import assert_close

from nni_robust.oneshot import CurrentWeights, LogNormalWeights, WeightOptions
from nni_robust.oneshot.mixture import LogNormalMixedLayer

SIZES = {"edge": 3, "input": 2}


def test_rows_start_at_the_medians_of_a_uniform_choice():
    weights = LogNormalWeights(SIZES)
    assert_close(weights.log_medians("edge").exp(), torch.full((3,), 1 / 3), rtol=0.01, atol=0)
    assert_close(weights.log_medians("input").exp(), torch.full((2,), 1 / 2), rtol=0.01, atol=0)


def test_draws_have_the_mean_and_variance_of_a_log_normal():
    weights = LogNormalWeights(SIZES, WeightOptions(initial_sigma=0.5))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([weights.sample(generator)[0].detach() for _ in range(20_000)]).double()
    mean = torch.exp(weights.mu.detach()[0].double() + 0.125)
    assert_close(drawn.mean(0), mean, rtol=0.02, atol=0)
    assert_close(drawn.var(0), mean**2 * (torch.tensor(0.25).double().exp() - 1), rtol=0.06, atol=0)


def test_gradients_reach_median_and_spread():
    weights = LogNormalWeights(SIZES)
    alpha = weights.sample(torch.Generator().manual_seed(0))[0]
    alpha.sum().backward()
    # d alpha / d mu = alpha; d alpha / d ln sigma = alpha (ln alpha - mu)
    spread = alpha.detach().log() - weights.mu.detach()[0]
    assert_close(weights.mu.grad[0], alpha.detach())
    assert_close(weights.log_sigma.grad[0], alpha.detach() * spread)
    assert weights.mu.grad[1].abs().sum() == 0


@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_are_finite_where_rows_are_shorter_than_others(normalize):
    weights = LogNormalWeights(SIZES, WeightOptions(normalize=normalize))
    current = CurrentWeights(weights)
    current.draw(torch.Generator().manual_seed(0))
    current["input"].square().sum().backward()
    assert weights.mu.grad.isfinite().all()
    assert weights.log_sigma.grad.isfinite().all()
    assert weights.mu.grad[1, 2] == 0


def test_expected_weights_of_normalised_rows_sum_to_one():
    weights = LogNormalWeights(SIZES, WeightOptions(initial_sigma=0.7, normalize=True))
    mu, variance = weights.underlying_normals()
    expected = (mu + variance / 2).exp()
    assert_close(expected[0].sum(), torch.tensor(1.0))
    assert_close(expected[1, :2].sum(), torch.tensor(1.0))


def test_without_confidence_learning_weights_are_numbers():
    weights = LogNormalWeights(SIZES, WeightOptions(confidence_learning=False))
    assert_close(weights.sample(torch.Generator().manual_seed(0))[0], weights.mu[0].exp())
    assert weights.underlying_normals()[1].abs().sum() == 0
    assert not weights.log_sigma.requires_grad


@pytest.mark.parametrize(
    ("rank", "winner"),
    # medians favour 0; means mu + sigma^2 / 2 = (0, 0.4, -0.1) favour 1; lower favours 2
    [("median", 0), ("mean", 1), ("lower", 2)],
)
def test_the_rank_is_an_option(rank, winner):
    weights = LogNormalWeights({"edge": 3}, WeightOptions(rank=rank))
    with torch.no_grad():
        weights.mu.copy_(torch.tensor([[0.0, -0.05, -0.1]]))
        weights.log_sigma.copy_(torch.tensor([[0.3, 0.95, 0.001]]).log())
    assert int(weights.scores("edge").argmax()) == winner


def test_a_sampled_rank_is_one_draw_of_the_seed():
    options = WeightOptions(rank="sampled", initial_sigma=1.0)
    first, second, other = (LogNormalWeights(SIZES, options, seed=seed) for seed in (0, 0, 1))
    assert_close(first.scores("edge"), second.scores("edge"), rtol=0, atol=0)
    assert_close(first.scores("edge"), first.scores("edge"), rtol=0, atol=0)
    assert not torch.equal(first.scores("edge"), other.scores("edge"))


def test_the_current_weights_are_the_medians_until_they_are_drawn():
    current = CurrentWeights(LogNormalWeights(SIZES))
    medians = current["edge"]
    assert_close(medians, current.log_normal.mu.detach()[0].exp())
    current.draw(torch.Generator().manual_seed(0))
    assert not torch.equal(current["edge"], medians)
    current.use_medians()
    assert_close(current["edge"], medians)
    assert not current["edge"].requires_grad


def test_a_copy_of_drawn_weights_uses_the_medians():
    current = CurrentWeights(LogNormalWeights(SIZES))
    medians = current["edge"]
    current.draw(torch.Generator().manual_seed(0))
    assert_close(copy.deepcopy(current)["edge"], medians)


def test_a_choice_does_not_own_the_shared_weights():
    current = CurrentWeights(LogNormalWeights({"layer": 2}))
    with frozen_context():  # as in mutate_model
        twin = LogNormalMixedLayer({"a": nn.Linear(1, 1), "b": nn.Identity()}, current, "layer")
    assert set(twin.state_dict()) == {"a.weight", "a.bias"}
    x = torch.ones(1, 1)
    alpha = current["layer"]
    assert_close(twin(x), alpha[0] * twin.edge.operations["a"](x) + alpha[1] * x)
