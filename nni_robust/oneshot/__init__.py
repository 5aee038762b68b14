"""Supernet twins of the spaces' edges, and the loops that train them."""

from __future__ import annotations

from nni_robust.oneshot.lagrangian import ADMM, AugmentedLagrangian, ConstraintOptions
from nni_robust.oneshot.lipschitz_bound import BoundOptions, LipschitzBound, log_bound
from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.path_sampling import (
    PathSamplingMultiOpEdge,
    PathSamplingOneShot,
    activate,
    as_supernet,
)

__all__ = [
    "ADMM",
    "AugmentedLagrangian",
    "BoundOptions",
    "ConstraintOptions",
    "LipschitzBound",
    "LogNormalWeights",
    "PathSamplingMultiOpEdge",
    "PathSamplingOneShot",
    "activate",
    "as_supernet",
    "log_bound",
]
