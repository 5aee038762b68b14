"""Sums, products and bounds of log-normals against plain loops, draws and closed forms."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from torch.testing import assert_close

from nni_robust.functional.lognormal import (
    confidence_constraint,
    lipschitz_log_normal,
    log_normal_sum,
)

FORMS = ["corrected", "printed"]
DRAWS = 20_000
CELLS = [0, 0, 1, 0, 0, 1, 0, 0]  # 0 normal, 1 reduction
ENDS = [node for node in range(4) for _ in range(node + 2)]  # the node of each of 14 edges


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def randn(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def terms(generator):
    """Return mu and variance of three sums of five terms."""
    return randn(generator, 3, 5), rand(generator, 3, 5)


def sum_by_loops(mu, variance, form="corrected"):
    """Compute [RACL] Eq. 11, or Eq. 12 as printed, for one sum, term by term."""
    total, numerator = 0.0, 0.0
    for m, v in zip(mu.tolist(), variance.tolist(), strict=True):
        total += math.exp(m + v / 2)
        if form == "corrected":
            numerator += math.exp(2 * m + v) * math.expm1(v)
        else:
            numerator += math.exp(2 * m + v / 2) * math.expm1(v / 2)
    s2 = math.log1p(numerator / total**2)
    return double(math.log(total) - s2 / 2, s2)


@pytest.mark.parametrize("form", FORMS)
def test_a_sum_equals_plain_loops(terms, form):
    mu, variance = terms
    expected = torch.stack([sum_by_loops(*row, form) for row in zip(mu, variance, strict=True)])
    assert_close(torch.stack(log_normal_sum(mu, variance, form=form), -1), expected)


def test_a_sum_has_the_mean_and_the_variance_of_its_terms(terms):
    mu, variance = terms
    m, s2 = log_normal_sum(mu, variance)
    means, variances = (mu + variance / 2).exp(), (2 * mu + variance).exp() * variance.expm1()
    assert_close((m + s2 / 2).exp(), means.sum(-1))
    assert_close((2 * m + s2).exp() * s2.expm1(), variances.sum(-1))


def test_a_single_term_is_its_own_sum(terms):
    mu, variance = terms
    m, s2 = log_normal_sum(mu[..., None], variance[..., None])
    assert_close(m, mu)
    assert_close(s2, variance)


def test_the_printed_form_changes_a_single_term(terms):
    # Small variances are halved; the mean of the log-normal is kept.
    m, s2 = log_normal_sum(double(0.7), double(1e-6), form="printed")
    assert_close(s2, double(0.5e-6)[0], rtol=1e-5, atol=0)
    assert_close(m + s2 / 2, double(0.7 + 0.5e-6)[0])


def test_scaling_every_term_scales_the_sum(terms):
    mu, variance = terms
    m, s2 = log_normal_sum(mu, variance)
    for log_scale in (2.0, 1000.0, -1000.0):  # e^1000 overflows float64
        m_scaled, s2_scaled = log_normal_sum(mu + log_scale, variance)
        assert_close(m_scaled, m + log_scale)
        assert_close(s2_scaled, s2)


@pytest.mark.parametrize("count", [2, 7, 1000])
def test_equal_terms_divide_the_squared_coefficient_of_variation(count):
    m, s2 = log_normal_sum(
        torch.full((count,), 0.3, dtype=torch.float64),
        torch.full((count,), 0.5, dtype=torch.float64),
    )
    expected = math.log1p(math.expm1(0.5) / count)
    assert_close(s2, double(expected)[0])
    assert_close(m, double(math.log(count) + 0.3 + 0.25 - expected / 2)[0])


@pytest.mark.parametrize("form", FORMS)
def test_terms_without_variance_add_up_as_numbers(form):
    variance = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    m, s2 = log_normal_sum(double(1.0, 2.0, 5.0).log(), variance, form=form)
    assert_close(m, double(8.0).log()[0])
    assert s2 == 0
    (gradient,) = torch.autograd.grad(s2, variance)
    # To first order, the variance of a sum is the sum of its terms' variances, weighted by
    # squared shares.
    expected = double(1.0, 4.0, 25.0) / 64 / (1 if form == "corrected" else 2)
    assert_close(gradient, expected)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_a_sum_matches_finite_differences(terms, form):
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[0, 2] = mask[2, :4] = False
    inputs = [tensor.requires_grad_() for tensor in terms]
    assert torch.autograd.gradcheck(lambda *x: log_normal_sum(*x, mask=mask, form=form), inputs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 1.0, 3.0])
def test_float32_agrees_with_plain_loops_at_any_sigma(generator, sigma, form):
    mu = randn(generator, 5)
    variance = (sigma * (0.5 + rand(generator, 5) / 2)) ** 2
    mu32, variance32 = mu.float().requires_grad_(), variance.float().requires_grad_()
    m, s2 = log_normal_sum(mu32, variance32, form=form)
    expected = sum_by_loops(mu, variance, form).float()
    assert_close(torch.stack([m, s2]), expected, rtol=1e-5, atol=1e-30)
    gradients = torch.autograd.grad(m + s2, [mu32, variance32])
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("filler", [-math.inf, math.nan, 1e30])
def test_an_absent_term_changes_nothing(terms, form, filler):
    mu, variance = terms
    keep = torch.tensor([True, False, True, True, False])
    expected = log_normal_sum(mu[:, keep], variance[:, keep], form=form)
    mu = mu.masked_fill(~keep, filler)
    actual = log_normal_sum(mu, variance, mask=keep.expand(3, 5), form=form)
    assert_close(actual, expected)


@pytest.mark.parametrize("filler", [-math.inf, 0.0])
def test_an_absent_term_receives_no_gradient(terms, filler):
    mask = torch.tensor([True, False, True, True, False]).expand(3, 5)
    mu = terms[0].masked_fill(~mask, filler).requires_grad_()
    variance = terms[1].requires_grad_()
    m, s2 = log_normal_sum(mu, variance, mask=mask)
    for gradient in torch.autograd.grad((m + s2).sum(), [mu, variance]):
        assert torch.equal(gradient == 0, ~mask)


def test_a_sum_without_terms_is_zero_and_has_no_gradient(terms):
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    inputs = [tensor.requires_grad_() for tensor in terms]
    m, s2 = log_normal_sum(*inputs, mask=mask)
    assert m[1] == -math.inf
    assert s2[1] == 0
    for gradient in torch.autograd.grad(m.sum() + s2.sum(), inputs):
        assert torch.equal(gradient != 0, mask)


def test_a_present_term_that_is_nan_makes_the_sum_nan():
    m, s2 = log_normal_sum(double(0.0, math.nan), double(0.1, 0.1))
    assert m.isnan()
    assert s2.isnan()


def search_network(generator, sigma):
    """Return 8 cells of 4 nodes, 14 edges and 7 operations; cells of one type are equal."""
    cell = torch.tensor(CELLS)
    edge_type = cell[:, None] * 14 + torch.arange(14)  # (8, 14)
    node_type = cell[:, None] * 4 + torch.arange(4)
    first = torch.tensor([0, 2, 5, 9])  # the first edge of each node
    slot = torch.arange(5)
    inputs = torch.where(slot < torch.arange(2, 6)[:, None], first[:, None] + slot, -1)  # (4, 5)
    incoming = torch.where(inputs >= 0, 14 * torch.arange(8)[:, None, None] + inputs, -1)
    alpha_mu = 0.2 * randn(generator, 28, 7)[edge_type.flatten()]  # (112, 7)
    edge_beta = 0.2 * randn(generator, 28)[edge_type.flatten()]  # (112,)
    log_lipschitz = torch.linspace(1, 2.4, 7, dtype=torch.float64).log().repeat(112, 1)
    incoming = incoming.flatten(0, 1)
    return {
        "alpha_mu": alpha_mu,
        "alpha_variance": torch.full_like(alpha_mu, sigma**2),
        "log_lipschitz": log_lipschitz,
        "beta_mu": edge_beta[incoming],  # the padding repeats the last edge
        "beta_variance": torch.full((32, 5), sigma**2, dtype=torch.float64),
        "incoming": incoming,
        "node_type": node_type.flatten(),
    }


def draw_bound(generator, network, *, shared=False):
    """Return draws of the logarithm of the bound: sums and products of drawn weights."""
    num_edges, num_ops = network["alpha_mu"].shape
    present = network["incoming"] >= 0
    beta_mu = torch.zeros(num_edges, dtype=torch.float64)
    beta_mu[network["incoming"][present]] = network["beta_mu"][present]
    sigma = float(network["beta_variance"][0, 0]) ** 0.5  # the same everywhere
    if shared:
        cell = torch.tensor(CELLS)
        edge_type = (cell[:, None] * 14 + torch.arange(14)).flatten()
    else:
        edge_type = torch.arange(num_edges)
    node = torch.empty(num_edges, dtype=torch.long)
    node[network["incoming"][present]] = present.nonzero()[:, 0]
    lipschitz = network["log_lipschitz"].exp()
    log_bound = torch.empty(DRAWS, dtype=torch.float64)
    for part in log_bound.split(2000):
        normal = randn(generator, len(part), int(edge_type.max()) + 1, num_ops + 1)[:, edge_type]
        alpha = (network["alpha_mu"] + sigma * normal[..., :num_ops]).exp()
        beta = (beta_mu + sigma * normal[..., num_ops]).exp()
        edges = beta * (alpha * lipschitz).sum(-1)  # (part, E)
        nodes = torch.zeros(len(part), len(network["incoming"]), dtype=torch.float64)
        part.copy_(nodes.index_add_(1, node, edges).log().sum(-1))
    return log_bound


def one_node(generator, num_inputs, sigma):
    """Return a network of one node whose inputs sum seven operations each."""
    return {
        "alpha_mu": 0.2 * randn(generator, num_inputs, 7),
        "alpha_variance": torch.full((num_inputs, 7), sigma**2, dtype=torch.float64),
        "log_lipschitz": torch.linspace(1, 2.4, 7, dtype=torch.float64).log().repeat(num_inputs, 1),
        "beta_mu": 0.2 * randn(generator, 1, num_inputs),
        "beta_variance": torch.full((1, num_inputs), sigma**2, dtype=torch.float64),
        "incoming": torch.arange(num_inputs)[None],
    }


def independent(network):
    return {key: value for key, value in network.items() if key != "node_type"}


# The variance of n draws has a relative standard error of sqrt(2 / n) = 1 %. The error of the
# approximation by one log-normal is added to it: up to about a fifth at sigma 1.
@pytest.mark.parametrize(("sigma", "error"), [(0.1, 0.04), (0.5, 0.08), (1.0, 0.25)])
def test_an_edge_of_seven_operations_has_the_moments_of_its_draws(generator, sigma, error):
    mu = 0.2 * randn(generator, 7) + torch.linspace(1, 2.4, 7, dtype=torch.float64).log()
    drawn = (mu + sigma * randn(generator, DRAWS, 7)).logsumexp(-1)
    m, s2 = log_normal_sum(mu, torch.full((7,), sigma**2, dtype=torch.float64))
    assert_close(m, drawn.mean(), atol=0.03 * sigma, rtol=0)
    assert_close(s2, drawn.var(), atol=0, rtol=error)


@pytest.mark.parametrize(
    ("num_inputs", "sigma", "error", "printed"),
    # Share of the variance that Eq. 12 keeps, measured by simulation: 0.50, 0.42, 0.30.
    [(2, 0.1, 0.04, 0.50), (5, 0.5, 0.08, 0.42), (2, 1.0, 0.25, 0.30)],
)
def test_a_node_has_the_moments_of_its_draws_unlike_the_printed_form(
    generator, num_inputs, sigma, error, printed
):
    network = one_node(generator, num_inputs, sigma)
    drawn = draw_bound(generator, network)
    mu, variance = lipschitz_log_normal(**network)
    assert_close(mu, drawn.mean(), atol=0.08 * sigma, rtol=0)
    assert_close(variance, drawn.var(), atol=0, rtol=error)
    _, variance = lipschitz_log_normal(**network, form="printed")
    assert_close(variance / drawn.var(), double(printed)[0], atol=0.03, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_a_network_of_independent_draws_has_the_moments_of_its_draws(generator, sigma):
    network = independent(search_network(generator, sigma))
    drawn = draw_bound(generator, network)
    mu, variance = lipschitz_log_normal(**network)
    assert_close(mu, drawn.mean(), atol=0.02, rtol=0)
    assert_close(variance, drawn.var(), atol=0, rtol=0.05)


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_a_network_of_shared_draws_has_the_moments_of_its_draws(generator, sigma):
    network = search_network(generator, sigma)
    drawn = draw_bound(generator, network, shared=True)
    mu, variance = lipschitz_log_normal(**network)
    assert_close(mu, drawn.mean(), atol=0.05, rtol=0)
    assert_close(variance, drawn.var(), atol=0, rtol=0.05)


def test_sharing_the_draws_raises_the_variance_fivefold(generator):
    # Six cells of one type and two of the other: (6^2 + 2^2) / (6 + 2) = 5.
    network = search_network(generator, 0.1)
    mu, variance = lipschitz_log_normal(**network)
    mu_independent, variance_independent = lipschitz_log_normal(**independent(network))
    assert_close(mu, mu_independent)
    assert_close(variance / variance_independent, double(5.0)[0], rtol=0.02, atol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_the_quantile_of_a_network_is_covered_by_its_draws(generator, sigma):
    # The coverage of n draws has a standard error of 0.002. A separate simulation gave 0.90, and
    # 0.716 if shared draws are treated as independent.
    network = search_network(generator, sigma)
    drawn = draw_bound(generator, network, shared=True)

    def coverage(arguments):
        moments = lipschitz_log_normal(**arguments)
        c = confidence_constraint(*moments, confidence=0.9, log_target=drawn, exact_sigma=True)
        return float((c >= 0).double().mean())

    assert coverage(network) == pytest.approx(0.9, abs=0.01)
    assert coverage(independent(network)) == pytest.approx(0.716, abs=0.015)


@pytest.mark.parametrize(("sigma", "expected"), [(0.1, 0.672), (0.3, 0.916), (0.5, 0.992)])
def test_the_square_of_sigma_covers_another_quantile(generator, sigma, expected):
    mu, variance = lipschitz_log_normal(**independent(search_network(generator, sigma)))
    quantile = confidence_constraint(mu, variance, confidence=0.9, log_target=0.0)
    actual = NormalDist(mu.item(), variance.sqrt().item()).cdf(quantile.item())
    assert actual == pytest.approx(expected, abs=0.01)


def test_nodes_without_a_common_type_are_independent(generator):
    network = search_network(generator, 0.5)
    distinct = {**network, "node_type": torch.arange(32).flip(0) - 7}
    assert_close(lipschitz_log_normal(**distinct), lipschitz_log_normal(**independent(network)))


def test_standard_deviations_of_nodes_that_share_their_draws_add(generator):
    # Nodes of one input and one operation with a constant of 1: their variance is the given one.
    given = double(0.04, 0.25, 0.01)
    _, variance = lipschitz_log_normal(
        alpha_mu=torch.zeros(3, 1, dtype=torch.float64),
        alpha_variance=given[:, None],
        log_lipschitz=torch.zeros(3, 1, dtype=torch.float64),
        beta_mu=torch.zeros(3, 1, dtype=torch.float64),
        beta_variance=torch.zeros(3, 1, dtype=torch.float64),
        incoming=torch.arange(3)[:, None],
        node_type=torch.tensor([7, 7, 2]),
    )
    assert_close(variance, double((0.2 + 0.5) ** 2 + 0.01)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_without_variance_is_a_product_of_sums(generator, dtype, form):
    network = search_network(generator, 0.0)
    expected = draw_bound(generator, network)[0]
    network = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.items()}
    for key in ("alpha_mu", "alpha_variance", "beta_mu", "beta_variance"):
        network[key].requires_grad_()
    for arguments in (network, independent(network)):
        mu, variance = lipschitz_log_normal(**arguments, form=form)
        assert_close(mu, expected.to(dtype))
        assert variance == 0
        c = confidence_constraint(mu, variance, confidence=0.9, log_target=0.0, exact_sigma=True)
        leaves = [value for value in network.values() if value.requires_grad]
        for gradient in torch.autograd.grad(c + variance, leaves):
            assert bool(gradient.isfinite().all())


def test_lowering_every_weight_of_an_operation_lowers_every_node(generator):
    network = search_network(generator, 0.3)
    mu, variance = lipschitz_log_normal(**network)
    lowered = {**network, "alpha_mu": network["alpha_mu"] - 0.25}
    assert_close(lipschitz_log_normal(**lowered), (mu - 32 * 0.25, variance))


def test_operations_that_cannot_be_measured_are_left_out(generator):
    network = one_node(generator, 3, 0.3)
    expected = lipschitz_log_normal(**network)
    ops = {
        "alpha_mu": randn(generator, 2, 7),
        "alpha_variance": rand(generator, 2, 7),
        "log_lipschitz": torch.full((2, 7), -math.inf, dtype=torch.float64),
    }
    wider = {key: torch.cat([network[key], value]) for key, value in ops.items()}
    # In addition to the node: its padding, an input without operations, nodes of only these.
    for key in ("beta_mu", "beta_variance"):
        padded = torch.cat([network[key], rand(generator, 1, 2)], 1)
        wider[key] = torch.cat([padded, rand(generator, 2, 5)])
    wider["incoming"] = torch.tensor([[0, 1, 2, -1, 3], [4, 3, -1, -1, -1], [-1] * 5])
    for value in wider.values():
        if value.is_floating_point():
            value.requires_grad_()
    actual = lipschitz_log_normal(**wider, node_type=torch.zeros(3, dtype=torch.long))
    assert_close(actual, expected)
    gradients = torch.autograd.grad(sum(actual), [v for v in wider.values() if v.requires_grad])
    for gradient in gradients[:3]:
        assert torch.equal(gradient != 0, torch.arange(5)[:, None].expand(5, 7) < 3)
    for gradient in gradients[3:]:
        assert torch.equal(
            gradient != 0, torch.tensor([[True] * 3 + [False] * 2] + [[False] * 5] * 2)
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("types", [None, [0, 1, 0]])
def test_the_gradient_of_a_network_matches_finite_differences(generator, form, types):
    log_lipschitz = randn(generator, 4, 3)
    log_lipschitz[0, 1] = log_lipschitz[3] = -math.inf
    incoming = torch.tensor([[0, 1], [2, 3], [1, -1]])
    node_type = None if types is None else torch.tensor(types)

    def moments(alpha_mu, alpha_variance, beta_mu, beta_variance):
        return lipschitz_log_normal(
            alpha_mu=alpha_mu,
            alpha_variance=alpha_variance,
            log_lipschitz=log_lipschitz,
            beta_mu=beta_mu,
            beta_variance=beta_variance,
            incoming=incoming,
            node_type=node_type,
            form=form,
        )

    inputs = [
        randn(generator, 4, 3),
        0.1 + rand(generator, 4, 3),
        randn(generator, 3, 2),
        0.1 + rand(generator, 3, 2),
    ]
    assert torch.autograd.gradcheck(moments, [tensor.requires_grad_() for tensor in inputs])


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.7, 0.9])
def test_the_constraint_is_zero_at_the_quantile(confidence):
    quantile = NormalDist(0.3, 1.5).inv_cdf(confidence)
    moments = double(0.3)[0], double(1.5**2)[0]
    c = confidence_constraint(
        *moments, confidence=confidence, log_target=quantile, exact_sigma=True
    )
    assert_close(c, double(0.0)[0])


@pytest.mark.parametrize(("confidence", "quantile"), [(0.9, 1.28155), (0.7, 0.52440)])
def test_the_constraint_uses_the_variance_in_place_of_sigma(confidence, quantile):
    c = confidence_constraint(
        double(2.0), double(0.25), confidence=confidence, log_target=double(0.5)
    )
    assert_close(c, double(2.0 + quantile * 0.25 - 0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("exact_sigma", [False, True])
def test_the_gradient_of_the_constraint_matches_finite_differences(terms, exact_sigma):
    def constraint(mu, variance):
        return confidence_constraint(
            mu, variance, confidence=0.9, log_target=0.3, exact_sigma=exact_sigma
        )

    inputs = [tensor.requires_grad_() for tensor in terms]
    assert torch.autograd.gradcheck(constraint, inputs)


def test_an_unknown_form_is_refused(terms):
    with pytest.raises(
        ValueError, match=r"form must be one of \['corrected', 'printed'\], got 'x'"
    ):
        log_normal_sum(*terms, form="x")


def test_tensors_of_different_shapes_are_refused(terms):
    mu, variance = terms
    message = r"mu, variance must have the same shape, got \(3, 5\), \(3, 4\)\."
    with pytest.raises(ValueError, match=message):
        log_normal_sum(mu, variance[:, 1:])
    with pytest.raises(ValueError, match=r"mu, mask must have the same shape"):
        log_normal_sum(mu, variance, mask=torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("log_lipschitz", r"alpha_variance, log_lipschitz must have the same shape, got \(2, 7\)"),
        ("incoming", r"beta_variance, incoming must have the same shape, got \(1, 2\)"),
    ],
)
def test_a_network_of_different_shapes_is_refused(generator, argument, message):
    network = one_node(generator, 2, 0.1)
    with pytest.raises(ValueError, match=message):
        lipschitz_log_normal(**{**network, argument: network[argument][..., :1]})


def test_every_node_needs_a_type(generator):
    with pytest.raises(
        ValueError, match=r"one entry per row of incoming, \(1,\), got shape \(2,\)\."
    ):
        lipschitz_log_normal(**one_node(generator, 2, 0.1), node_type=torch.zeros(2))


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 90, math.nan])
def test_a_confidence_outside_0_and_1_is_refused(confidence):
    with pytest.raises(
        ValueError, match=rf"confidence must lie strictly between 0 and 1, got {confidence}\."
    ):
        confidence_constraint(
            torch.zeros(()), torch.ones(()), confidence=confidence, log_target=0.0
        )
