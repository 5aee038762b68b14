"""Sums of log-normal weights, and the Lipschitz bound of a network built from them."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from nni_robust.check import check_choice, check_share

SumForm = Literal["corrected", "printed"]


def log_normal_sum(
    mu: Tensor, variance: Tensor, *, mask: Tensor | None = None, form: SumForm = "corrected"
) -> tuple[Tensor, Tensor]:
    r"""Approximate a sum of independent log-normals by one log-normal.

    The mean and variance of the sum are matched exactly (Fenton--Wilkinson):

    .. math::

        s^2 = \ln\Bigl(1 + \frac{\sum_k e^{2\mu_k + \sigma_k^2} (e^{\sigma_k^2} - 1)}
              {(\sum_k e^{\mu_k + \sigma_k^2 / 2})^2}\Bigr),
        \qquad m = \ln \sum_k e^{\mu_k + \sigma_k^2 / 2} - s^2 / 2.

    Parameters
    ----------
    mu
        Means of the underlying normals, shape ``(..., K)``; any value where a term is absent.
    variance
        Variances of the underlying normals, same shape, not negative; 0 is a constant term.
    mask
        True where a term is present, same shape; None if all are. An absent term contributes
        nothing and receives a gradient of exactly 0.
    form
        ``"corrected"`` is the formula above; ``"printed"`` has the numerator of [RACL] Eq. 12.

    Returns
    -------
    m, s2
        Mean and variance of the underlying normal of the sum, shape ``(...)``; minus infinity and
        0 if no term is present.

    Notes
    -----
    [RACL] Eq. 11. The numerator of Eq. 12 is printed as
    :math:`\sum_k e^{2\mu_k + \sigma_k^2 / 2} (e^{\sigma_k^2 / 2} - 1)`. This contradicts Eq. 11,
    from which it is derived, and it changes a single term: a small variance is halved.

    Examples
    --------
    >>> log_normal_sum(torch.zeros(4), torch.zeros(4))[0].exp()  # 1 + 1 + 1 + 1
    tensor(4.)
    >>> log_normal_sum(torch.tensor([2.0]), torch.tensor([0.25]))  # one term is its own sum
    (tensor(2.), tensor(0.2500))
    """
    check_choice("form", form, get_args(SumForm))
    _check_same_shape(mu=mu, variance=variance)
    if mask is None:
        mask = torch.ones_like(mu, dtype=torch.bool)
    _check_same_shape(mu=mu, mask=mask)
    absent, empty = ~mask, ~mask.any(-1)  # (..., K), (...)
    variance = variance.masked_fill(absent, 0)
    log_mean = (mu + variance / 2).masked_fill(absent, -math.inf)
    # A row without terms is computed at an arbitrary point, so that no gradient becomes NaN.
    log_mean = log_mean.masked_fill(empty.unsqueeze(-1), 0)
    # Every term's variance over its squared mean; as printed, this becomes 1 - e^(-v / 2).
    relative = variance.expm1() if form == "corrected" else -(-variance / 2).expm1()
    s2 = (log_mean.softmax(-1).square() * relative).sum(-1).log1p()
    m = log_mean.logsumexp(-1) - s2 / 2
    return m.masked_fill(empty, -math.inf), s2


def lipschitz_log_normal(
    *,
    alpha_mu: Tensor,
    alpha_variance: Tensor,
    log_lipschitz: Tensor,
    beta_mu: Tensor,
    beta_variance: Tensor,
    incoming: Tensor,
    node_type: Tensor | None = None,
    form: SumForm = "corrected",
) -> tuple[Tensor, Tensor]:
    r"""Approximate the Lipschitz bound of a network with random weights by one log-normal.

    An edge sums its operations, a node its inputs, and the network multiplies its nodes:

    .. math::

        \lambda_F = \prod_j \sum_{e \to j} \beta_e \sum_o \alpha_{e,o} \lambda_{e,o}.

    Parameters
    ----------
    alpha_mu, alpha_variance
        Underlying normals of the weights of the operations, shape ``(E, O)`` for the E edges of
        all cells.
    log_lipschitz
        Logarithms of the Lipschitz constants of the operations, shape ``(E, O)``; minus infinity
        for the zero operation and for padding.
    beta_mu, beta_variance
        Underlying normals of the weights of the inputs, shape ``(N, I)`` for the N nodes of all
        cells.
    incoming
        The edge of each input of a node, shape ``(N, I)``; -1 is padding.
    node_type
        Nodes with the same number share their draws, shape ``(N,)``. None makes all draws
        independent, as the paper assumes.
    form
        As in `log_normal_sum`, for the sum over the inputs of a node.

    Returns
    -------
    mu, variance
        The underlying normal of the bound, two scalars.

    Notes
    -----
    [RACL] Eq. 10--12, with C = 1, since the target of the bound can absorb C. A node that no
    operation with a positive constant reaches is left out of the product.

    The cells of one type share alpha and beta, which the paper ignores when it adds the variances.
    Nodes that share their draws rise and fall together, so their standard deviations add:
    :math:`\sigma^2 = \sum_t (\sum_{j \in t} s_j)^2`. This is exact if the operations of a type have
    the same constants in all cells, up to a factor, and an upper estimate otherwise.
    """
    _check_same_shape(alpha_mu=alpha_mu, alpha_variance=alpha_variance, log_lipschitz=log_lipschitz)
    _check_same_shape(beta_mu=beta_mu, beta_variance=beta_variance, incoming=incoming)
    if node_type is not None and node_type.shape != incoming.shape[:1]:
        raise ValueError(
            f"node_type must have one entry per row of incoming, {(len(incoming),)}, "
            f"got shape {tuple(node_type.shape)}."
        )
    edge_m, edge_s2 = log_normal_sum(
        alpha_mu + log_lipschitz, alpha_variance, mask=~log_lipschitz.isneginf()
    )  # (E,)
    node_m, node_s2 = log_normal_sum(
        beta_mu + edge_m[incoming],  # the -1 of padding reads the last edge, which is masked
        beta_variance + edge_s2[incoming],
        mask=(incoming >= 0) & ~edge_m.isneginf()[incoming],
        form=form,
    )  # (N,)
    # The product of log-normals is exact: the underlying normals add.
    mu, variance = node_m.masked_fill(node_m.isneginf(), 0).sum(-1), node_s2.sum(-1)
    if node_type is not None:
        variance = variance + _covariance_within(node_s2, node_type)
    return mu, variance


def confidence_constraint(
    mu: Tensor,
    variance: Tensor,
    *,
    confidence: float,
    log_target: float | Tensor,
    exact_sigma: bool = False,
) -> Tensor:
    r"""Return by how much a quantile of a log-normal exceeds its target.

    .. math:: c = \mu + \Phi^{-1}(\eta) \, \sigma^2 - \ln \lambda^*.

    Parameters
    ----------
    mu, variance
        The underlying normal of the Lipschitz bound.
    confidence
        The quantile eta, in (0, 1).
    log_target
        Logarithm of the value that the quantile must not exceed.
    exact_sigma
        True uses sigma, as the exact quantile does; False uses its square, as the paper does.

    Returns
    -------
    c
        At most 0 where the constraint holds, same shape as ``mu``.

    Notes
    -----
    [RACL] Eq. 16, which replaces the sigma of Eq. 15 by its square: at c = 0 the confidence is
    then not eta but :math:`\Phi(\Phi^{-1}(\eta) \, \sigma)`. With ``exact_sigma`` it is Eq. 15. The
    gradient of sigma at a variance of 0 does not exist; it is returned as 0.

    Examples
    --------
    >>> mu, variance = torch.tensor(1.0), torch.tensor(0.25)
    >>> confidence_constraint(mu, variance, confidence=0.9, log_target=0.0, exact_sigma=True)
    tensor(1.6408)
    """
    check_share("confidence", confidence)
    quantile: float = torch.special.ndtri(torch.tensor(confidence, dtype=torch.float64)).item()
    return mu + quantile * (_root(variance) if exact_sigma else variance) - log_target


def _covariance_within(s2: Tensor, node_type: Tensor) -> Tensor:
    """Return the sum of ``s_j s_k`` over all pairs of different nodes of one type."""
    sigma = _root(s2)
    same = (node_type.unsqueeze(1) == node_type).fill_diagonal_(False)  # (N, N)
    return (sigma.unsqueeze(1) * sigma * same).sum()


def _root(variance: Tensor) -> Tensor:
    """Return the square root, with the gradient 0 at 0."""
    zero = variance == 0
    return variance.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _check_same_shape(**tensors: Tensor) -> None:
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors.values())
        raise ValueError(f"{', '.join(tensors)} must have the same shape, got {shapes}.")
