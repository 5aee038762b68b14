"""ADMM on problems whose constrained optimum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import optim
from torch.testing import assert_close

from nni_robust.functional.lognormal import confidence_constraint, lipschitz_log_normal
from nni_robust.oneshot.admm import ADMM, AugmentedLagrangian
from nni_robust.oneshot.lognormal import LogNormalWeights

QUANTILE = 1.2815515655446004  # of the standard normal at 0.9
WANTED_MU, WANTED_SIGMA = np.array([0.8, -0.2, 0.1]), np.array([0.5, 0.3, 0.4])
LIPSCHITZ = np.array([1.0, 2.4, 1.5])


def test_the_steps_reach_the_constrained_optimum_and_its_dual():
    """Three operations on one edge; the reference is scipy's SLSQP on plain loops."""
    for log_target in (0.5, 1.0):
        weights, lagrangian = solve(log_target)
        mu, sigma = weights.mu.detach()[0], weights.log_sigma.detach()[0].exp()
        expected, dual = reference(log_target)
        found = torch.cat([mu, sigma]).double().numpy()
        assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
        assert lagrangian.dual == pytest.approx(dual, rel=0.01)


def test_an_idle_constraint_leaves_the_unconstrained_optimum_and_no_dual():
    weights, lagrangian = solve(log_target=10.0)
    assert lagrangian.dual == 0.0
    assert_close(weights.mu.detach()[0], torch.tensor(WANTED_MU).float(), atol=0.01, rtol=0)


def test_alternating_steps_reach_the_same_optimum():
    weights, lagrangian = solve(0.5, alternate=True)
    expected, dual = reference(0.5)
    assert np.abs(weights.mu.detach()[0].double().numpy() - expected[:3]).max() < 0.01
    assert lagrangian.dual == pytest.approx(dual, rel=0.01)


def test_the_literal_form_pulls_the_bound_up_to_its_target():
    """An equality: where the inequality is idle, the dual turns negative."""
    weights, lagrangian = solve(log_target=2.5, form="literal")
    assert constraint(weights, 2.5).item() == pytest.approx(0.0, abs=0.02)
    assert lagrangian.dual < 0


@pytest.mark.parametrize(
    ("form", "dual", "c", "penalty", "moved"),
    [
        # ([theta + rho c]_+^2 - theta^2) / (2 rho), and theta c + rho c^2 / 2, by hand
        ("inequality", 1.0, 2.0, (2.0**2 - 1.0) / (2 * 0.5), 2.0),
        ("inequality", 1.0, -4.0, -1.0 / (2 * 0.5), 0.0),
        ("literal", 1.0, 2.0, 1.0 * 2 + 0.25 * 4, 2.0),
        ("literal", 1.0, -4.0, -4 + 0.25 * 16, -1.0),
    ],
)
def test_penalty_and_dual_step(form, dual, c, penalty, moved):
    lagrangian = AugmentedLagrangian(0.5, form)
    lagrangian.dual = dual
    assert float(lagrangian.penalty(torch.tensor(c))) == pytest.approx(penalty)
    lagrangian.update(c)
    assert lagrangian.dual == pytest.approx(moved)


def test_sigma_stays_in_its_range():
    weights = LogNormalWeights({"edge": 2})
    admm = ADMM(weights, None)
    optimizer = optim.SGD(weights.parameters(), lr=1e6)
    admm.step(lambda: -weights.log_sigma.sum(), lambda: torch.zeros(()), optimizer)
    assert_close(weights.log_sigma.detach().exp(), torch.ones(1, 2))
    admm.step(lambda: weights.log_sigma.sum(), lambda: torch.zeros(()), optimizer)
    assert_close(weights.log_sigma.detach().exp(), torch.full((1, 2), 1e-3))


def test_a_loss_that_is_nan_is_refused():
    weights = LogNormalWeights({"edge": 2})
    optimizer = optim.SGD(weights.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match=r"loss became nan.*Lower the learning rates"):
        ADMM(weights, None).step(
            lambda: weights.mu.sum() * math.nan, lambda: torch.zeros(()), optimizer
        )


def solve(log_target, *, form="inequality", alternate=False):
    """Minimise the squared distance to the wanted parameters under the constraint."""
    weights = LogNormalWeights({"edge": 3})
    with torch.no_grad():
        weights.mu.copy_(torch.tensor(WANTED_MU)[None])
        weights.log_sigma.copy_(torch.tensor(WANTED_SIGMA).log()[None])
    wanted_mu, wanted_sigma = torch.tensor(WANTED_MU).float(), torch.tensor(WANTED_SIGMA).float()
    lagrangian = AugmentedLagrangian(0.05, form)
    admm = ADMM(weights, lagrangian, alternate=alternate)
    optimizer = optim.Adam(weights.parameters(), lr=0.01, betas=(0.5, 0.999))

    def objective():
        mu, sigma = weights.mu[0], weights.log_sigma[0].exp()
        return ((mu - wanted_mu) ** 2).sum() / 2 + ((sigma - wanted_sigma) ** 2).sum() / 2

    for _ in range(1000):
        admm.step(objective, lambda: constraint(weights, log_target), optimizer)
    return weights, lagrangian


def constraint(weights, log_target):
    mu, variance = weights.underlying_normals()
    bound = lipschitz_log_normal(
        alpha_mu=mu,
        alpha_variance=variance,
        log_lipschitz=torch.tensor(LIPSCHITZ).float().log()[None],
        beta_mu=torch.zeros(1, 1),
        beta_variance=torch.zeros(1, 1),
        incoming=torch.zeros(1, 1, dtype=torch.long),
    )
    return confidence_constraint(*bound, confidence=0.9, log_target=log_target)


def reference(log_target):
    """Return the optimum by SLSQP and its multiplier from the gradients, in plain numpy."""
    wanted = np.concatenate([WANTED_MU, WANTED_SIGMA])

    def objective(z):
        return ((z - wanted) ** 2).sum() / 2

    def c(z):
        means = LIPSCHITZ * np.exp(z[:3] + z[3:] ** 2 / 2)
        spread = (means**2 * (np.exp(z[3:] ** 2) - 1)).sum() / means.sum() ** 2
        variance = math.log(1 + spread)
        return math.log(means.sum()) - variance / 2 + QUANTILE * variance - log_target

    found = minimize(
        objective,
        wanted,
        constraints={"type": "ineq", "fun": lambda z: -c(z)},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.success
    z, step = found.x, 1e-6
    gradient = np.array([(c(z + step * e) - c(z - step * e)) / (2 * step) for e in np.eye(6)])
    dual = -((z - wanted) @ gradient) / (gradient @ gradient)  # of f' + dual c' = 0
    return z, dual
