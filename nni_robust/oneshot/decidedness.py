"""How decided a search is: entropy and sureness of its choices of operations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.special import ndtr
from torch import Tensor

from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.node import MixedEdge, distinct_edges


def decidedness(weights: LogNormalWeights, edges: Sequence[MixedEdge]) -> dict[str, float]:
    """Return entropy and sureness, averaged over the choices with several operations.

    Operations that return zeros are left out: training does not reach their weights.

    Parameters
    ----------
    weights
        The log-normal variables.
    edges
        Edges of a supernet; edges with the same label count once, edges without a label do not.

    Returns
    -------
    dict
        ``entropy`` and ``sureness``, see :func:`entropy_share` and :func:`sureness`; empty if no
        edge has several operations.
    """
    mu, variance = (table.detach() for table in weights.underlying_normals())
    entropies, surenesses = [], []
    for label, edge in distinct_edges(edges).items():
        live = torch.tensor(edge.live, device=mu.device)
        row = weights.rows[label]
        log_medians, variances = (table[row, : len(live)][live] for table in (mu, variance))
        if len(log_medians) > 1:
            entropies.append(entropy_share(log_medians))
            surenesses.append(sureness(log_medians, variances))
    if not entropies:
        return {}
    return {
        "entropy": sum(entropies) / len(entropies),
        "sureness": sum(surenesses) / len(surenesses),
    }


def entropy_share(log_medians: Tensor) -> float:
    """Return the entropy of the shares of medians, relative to that of equal shares.

    Parameters
    ----------
    log_medians
        Logarithms of at least two medians, shape (n,).

    Examples
    --------
    >>> round(entropy_share(torch.zeros(4)), 6)
    1.0
    """
    shares = log_medians.softmax(0)
    return float(-(shares * shares.log()).sum()) / math.log(len(log_medians))


def sureness(mu: Tensor, variance: Tensor) -> float:
    r"""Return the probability that the candidate of the highest median outweighs the second.

    .. math:: \Phi\bigl((\mu_1 - \mu_2) / \sqrt{\sigma_1^2 + \sigma_2^2}\bigr).

    Parameters
    ----------
    mu, variance
        The underlying normals of at least two candidates, shape (n,).

    Examples
    --------
    >>> sureness(torch.tensor([0.0, 1.0]), torch.zeros(2))
    1.0
    """
    first, second = mu.topk(2).indices.tolist()
    spread = float((variance[first] + variance[second]).sqrt())
    gap = float(mu[first] - mu[second])
    return float(ndtr(gap / spread)) if spread else float(gap > 0)
