"""Supernets: twins of the spaces' choices, the loops that train them, their Lipschitz bound."""

from __future__ import annotations

from nni_robust.oneshot.admm import ADMM, AugmentedLagrangian
from nni_robust.oneshot.derived_bound import log_bound
from nni_robust.oneshot.lipschitz_bound import LipschitzBound
from nni_robust.oneshot.lognormal import CurrentWeights, LogNormalWeights
from nni_robust.oneshot.options import BoundOptions, ConstraintOptions, LoopOptions, WeightOptions
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
    "CurrentWeights",
    "LipschitzBound",
    "LogNormalWeights",
    "LoopOptions",
    "PathSamplingMultiOpEdge",
    "PathSamplingOneShot",
    "WeightOptions",
    "activate",
    "as_supernet",
    "log_bound",
]
