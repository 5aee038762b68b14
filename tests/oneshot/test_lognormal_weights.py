"""Log-normal weights, and the twins that use them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from nni_robust.oneshot.lognormal import LogNormalWeights

SIZES = {"edge": 3, "input": 2}


def test_rows_start_at_the_medians_of_a_uniform_choice():
    weights = LogNormalWeights(SIZES)
    weights.draw(None)
    assert_close(weights["edge"].detach(), torch.full((3,), 1 / 3), rtol=0.01, atol=0)
    assert_close(weights["input"].detach(), torch.full((2,), 1 / 2), rtol=0.01, atol=0)


def test_draws_have_the_mean_and_variance_of_a_log_normal():
    weights = LogNormalWeights(SIZES, initial_sigma=0.5)
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(20_000):
        weights.draw(generator)
        draws.append(weights["edge"].detach())
    drawn = torch.stack(draws).double()
    mean = torch.exp(weights.mu.detach()[0].double() + 0.125)
    assert_close(drawn.mean(0), mean, rtol=0.02, atol=0)
    assert_close(drawn.var(0), mean**2 * (torch.tensor(0.25).double().exp() - 1), rtol=0.06, atol=0)


def test_gradients_reach_median_and_spread():
    weights = LogNormalWeights(SIZES)
    generator = torch.Generator().manual_seed(0)
    weights.draw(generator)
    alpha = weights["edge"]
    alpha.sum().backward()
    # d alpha / d mu = alpha; d alpha / d ln sigma = alpha (ln alpha - mu)
    spread = alpha.detach().log() - weights.mu.detach()[0]
    assert_close(weights.mu.grad[0], alpha.detach())
    assert_close(weights.log_sigma.grad[0], alpha.detach() * spread)
    assert weights.mu.grad[1].abs().sum() == 0


@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_are_finite_where_rows_are_shorter_than_others(normalize):
    weights = LogNormalWeights(SIZES, normalize=normalize)
    weights.draw(torch.Generator().manual_seed(0))
    weights["input"].square().sum().backward()
    assert weights.mu.grad.isfinite().all()
    assert weights.log_sigma.grad.isfinite().all()
    assert weights.mu.grad[1, 2] == 0


def test_normalised_rows_have_expected_weights_of_sum_one():
    weights = LogNormalWeights(SIZES, initial_sigma=0.7, normalize=True)
    mu, variance = weights.log_normals()
    expected = (mu + variance / 2).exp()
    assert_close(expected[0].sum(), torch.tensor(1.0))
    assert_close(expected[1, :2].sum(), torch.tensor(1.0))


def test_without_confidence_learning_weights_are_numbers():
    weights = LogNormalWeights(SIZES, confidence_learning=False)
    weights.draw(torch.Generator().manual_seed(0))
    assert_close(weights["edge"], weights.mu[0].exp())
    assert weights.log_normals()[1].abs().sum() == 0
    assert not weights.log_sigma.requires_grad


@pytest.mark.parametrize(
    ("rank", "winner"),
    # medians favour 0; means mu + sigma^2 / 2 = (0, 0.4, -0.1) favour 1; lower favours 2
    [("median", 0), ("mean", 1), ("lower", 2)],
)
def test_the_rank_is_a_choice(rank, winner):
    weights = LogNormalWeights({"edge": 3}, rank=rank)
    with torch.no_grad():
        weights.mu.copy_(torch.tensor([[0.0, -0.05, -0.1]]))
        weights.log_sigma.copy_(torch.tensor([[0.3, 0.95, 0.001]]).log())
    weights.settle(torch.Generator())
    assert int(weights.ranking("edge").argmax()) == winner


def test_a_rank_by_draw_follows_its_generator():
    weights = LogNormalWeights(SIZES, rank="sampled", initial_sigma=1.0)
    drawn = []
    for seed in (0, 0, 1):
        weights.settle(torch.Generator().manual_seed(seed))
        drawn.append(weights.ranking("edge").clone())
    assert_close(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_weights_must_be_drawn_before_they_are_read():
    weights = LogNormalWeights(SIZES)
    with pytest.raises(RuntimeError, match=r"call draw\(\)"):
        weights["edge"]
    weights.draw(torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match=r"call draw\(\)"):  # a copy has no part in the graph
        copy.deepcopy(weights)["edge"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_sigma": 0.0}, r"initial_sigma must lie in \[0.001, 1.0\], got 0.0"),
        ({"rank": "mode"}, "rank must be 'median', 'mean', 'lower' or 'sampled', got 'mode'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LogNormalWeights(SIZES, **options)
