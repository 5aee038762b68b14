"""The options of a RACL search, in four groups: constraint, bound, weights, loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nni_robust.check import Options, SettingError, check_choice, check_count, check_share
from nni_robust.functional.lognormal import SumForm
from nni_robust.op.lipschitz_constants import ConvolutionNorm
from nni_robust.op.lipschitz_factors import PoolingNorm

DualForm = Literal["inequality", "literal"]
CellCorrelation = Literal["independent", "shared"]
Rank = Literal["median", "mean", "lower", "sampled"]

SIGMA_RANGE = (1e-3, 1.0)
"""Smallest and largest standard deviation of the underlying normals."""


@dataclass(frozen=True, kw_only=True)
class ConstraintOptions(Options):
    r"""The constraint :math:`P(\lambda_F \le \lambda^*) \ge \eta` on the Lipschitz bound.

    Parameters
    ----------
    constrained
        False measures the bound without constraining it.
    confidence
        :math:`\eta`, the probability that the bound keeps its target, in (0, 1).
    rho
        Weight of the quadratic term, and step size of the dual variable; positive.
    lipschitz_target
        :math:`\lambda^*`, positive.
    relative_target
        Share :math:`\kappa` in (0, 1] that replaces ``lipschitz_target``. The target is then taken
        when the architecture updates start: with q the quantile of :math:`\ln \lambda_F` at that
        moment, :math:`\ln \lambda^* = q - (1 - \kappa) |q|`.
    dual
        ``inequality`` never pushes where the constraint holds; ``literal`` is the paper's form,
        which treats the constraint as an equality.
    exact_sigma
        True uses :math:`\sigma` in the quantile; False uses :math:`\sigma^2`, as the paper does.

    Raises
    ------
    SettingError
        If a value is outside its range.

    Notes
    -----
    [RACL] Eq. 15--19.

    Examples
    --------
    >>> ConstraintOptions(confidence=1.2)
    Traceback (most recent call last):
    nni_robust.check.SettingError: confidence must lie strictly between 0 and 1, got 1.2.
    """

    constrained: bool = True
    confidence: float = 0.9
    rho: float = 0.001
    lipschitz_target: float = 1.0
    relative_target: float | None = None
    dual: DualForm = "inequality"
    exact_sigma: bool = False

    def __post_init__(self) -> None:
        check_share("confidence", self.confidence)
        _check_positive("rho", self.rho)
        _check_positive("lipschitz_target", self.lipschitz_target)
        if self.relative_target is not None and not 0 < self.relative_target <= 1:
            raise SettingError(
                f"must lie in (0, 1], got {self.relative_target!r}.", "relative_target"
            )
        check_choice("dual", self.dual, get_args(DualForm))


@dataclass(frozen=True, kw_only=True)
class BoundOptions(Options):
    """How the Lipschitz bound of a network is computed.

    Parameters
    ----------
    lipschitz
        Constant of a convolution: ``operator``, the norm of each linear part of the operation as
        it is applied; ``layers``, the product of an upper bound per layer; ``reshaped``, the
        product of the norms of the weights, each written as a matrix.
    fold_batch_norm
        Whether the scales of batch norms count; the paper leaves them out.
    pooling
        Constants of pooling: those of the ``paper``, or the true norms, ``operator``.
    constants
        Constants by the name of a candidate, for operations that cannot be measured; finite and
        not negative.
    eq12
        Variance of a sum of log-normals: ``corrected``, or as ``printed`` in the paper.
    cell_correlation
        ``independent`` draws per cell, as the paper assumes, or ``shared`` draws, as they are.

    Raises
    ------
    SettingError
        If a value is not one of these, or a constant is negative.

    Notes
    -----
    [RACL] Sec. 2.2 and Eq. 10--12.
    """

    lipschitz: ConvolutionNorm = "operator"
    fold_batch_norm: bool = False
    pooling: PoolingNorm = "paper"
    constants: Mapping[str, float] = field(default_factory=dict)
    eq12: SumForm = "corrected"
    cell_correlation: CellCorrelation = "independent"

    def __post_init__(self) -> None:
        check_choice("lipschitz", self.lipschitz, get_args(ConvolutionNorm))
        check_choice("pooling", self.pooling, get_args(PoolingNorm))
        check_choice("eq12", self.eq12, get_args(SumForm))
        check_choice("cell_correlation", self.cell_correlation, get_args(CellCorrelation))
        for name, value in self.constants.items():
            if not (value >= 0 and math.isfinite(value)):
                raise SettingError(
                    f"must be finite and not negative, got {value!r}.", f"constants[{name!r}]"
                )


@dataclass(frozen=True, kw_only=True)
class WeightOptions(Options):
    r"""The log-normal weights of operations and inputs, and how candidates are ranked by them.

    Parameters
    ----------
    initial_sigma
        Initial standard deviation of the underlying normals, in [0.001, 1]. Training keeps them
        in this range.
    confidence_learning
        False fixes every standard deviation at 0 (the paper's ablation): weights are then plain
        trainable numbers, and the bound is a number.
    normalize
        Whether the weights of a choice are scaled so that their expectations sum to 1. This scale
        is used in the bound and in the network. The Fenton--Wilkinson approximation does not hold
        for scaled weights.
    rank
        The number that decides at the end of the search: the ``median`` :math:`\mu`; the ``mean``
        :math:`\mu + \sigma^2 / 2`; ``lower``, :math:`\mu - k \sigma`; ``sampled``, one draw. An
        input is ranked by its own number plus that of the best operation on its edge.
    rank_deviations
        k of ``lower``, not negative.

    Raises
    ------
    SettingError
        If a value is outside its range.

    Notes
    -----
    [RACL] Sec. 2.3.
    """

    initial_sigma: float = 0.1
    confidence_learning: bool = True
    normalize: bool = False
    rank: Rank = "median"
    rank_deviations: float = 1.0

    def __post_init__(self) -> None:
        low, high = SIGMA_RANGE
        if not low <= self.initial_sigma <= high:
            raise SettingError(
                f"must lie in [{low}, {high}], got {self.initial_sigma!r}.", "initial_sigma"
            )
        check_choice("rank", self.rank, get_args(Rank))
        _check_not_negative("rank_deviations", self.rank_deviations)


@dataclass(frozen=True, kw_only=True)
class LoopOptions(Options):
    r"""How the search trains the architecture and the network in turns.

    Parameters
    ----------
    alternate
        True moves :math:`\sigma` after :math:`\mu`, on a second loss; False moves both at once.
    learning_rate
        Learning rate of Adam on the architecture, positive.
    weight_decay
        Weight decay of Adam on :math:`\mu`, not negative; :math:`\ln \sigma` has none.
    warmup_epochs
        Number of epochs before the first architecture step.
    max_norm
        Largest norm of the network's gradient, positive; None does not clip.
    refresh_every
        Number of architecture steps between two measurements of the operations' Lipschitz
        constants.

    Raises
    ------
    SettingError
        If a value is outside its range.

    Notes
    -----
    [RACL] Alg. 1 and Sec. 3.1.
    """

    alternate: bool = False
    learning_rate: float = 6e-4
    weight_decay: float = 1e-3
    warmup_epochs: int = 15
    max_norm: float | None = 5.0
    refresh_every: int = 50

    def __post_init__(self) -> None:
        _check_positive("learning_rate", self.learning_rate)
        _check_not_negative("weight_decay", self.weight_decay)
        check_count("warmup_epochs", self.warmup_epochs, least=0)
        if self.max_norm is not None:
            _check_positive("max_norm", self.max_norm)
        check_count("refresh_every", self.refresh_every)


def _check_positive(name: str, value: Any) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise SettingError(f"must be positive, got {value!r}.", name)


def _check_not_negative(name: str, value: Any) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise SettingError(f"must not be negative, got {value!r}.", name)
