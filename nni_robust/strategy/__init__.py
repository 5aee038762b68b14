"""Strategies: they decide which network comes next."""

from __future__ import annotations

from nni.nas.strategy import Random, RegularizedEvolution, Strategy

from nni_robust.strategy.racl import RACL
from nni_robust.strategy.robnet import RobNet

__all__ = ["RACL", "STRATEGIES", "RobNet"]

STRATEGIES: dict[str, type[Strategy]] = {
    "robnet": RobNet,
    "racl": RACL,
    # NNI's own strategies, which the strategy host runs too.
    "random": Random,
    "regularized_evolution": RegularizedEvolution,
}
