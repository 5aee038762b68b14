"""The constraint of RACL, its dual variable, and the steps that keep it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nni_robust.oneshot.lognormal import LogNormalWeights


@dataclass(frozen=True, kw_only=True)
class ConstraintOptions:
    r"""What is asked of the bound: :math:`P(\lambda_F \le \lambda^*) \ge \eta`.

    Attributes
    ----------
    constrained
        False measures the bound without constraining it.
    confidence
        :math:`\eta`, in (0, 1).
    rho
        Weight of the quadratic term, and step of the dual variable; positive.
    lipschitz_target
        :math:`\lambda^*`, positive.
    relative_target
        Share :math:`\kappa` in (0, 1] that replaces ``lipschitz_target``: its logarithm is the
        quantile that is found when the architecture updates start, less :math:`1 - \kappa` times
        its absolute value.
    dual
        ``inequality`` never pushes where the constraint holds; ``literal`` is the form of the
        paper, made for an equality.
    exact_sigma
        Whether the quantile takes :math:`\sigma`, or as in the paper :math:`\sigma^2`.
    """

    constrained: bool = True
    confidence: float = 0.9
    rho: float = 0.001
    lipschitz_target: float = 1.0
    relative_target: float | None = None
    dual: Literal["inequality", "literal"] = "inequality"
    exact_sigma: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"confidence must lie between 0 and 1, the probability that the bound keeps its "
                f"target, got {self.confidence!r}."
            )
        if not (self.rho > 0 and math.isfinite(self.rho)):
            raise ValueError(f"rho must be positive, got {self.rho!r}.")
        if not (self.lipschitz_target > 0 and math.isfinite(self.lipschitz_target)):
            raise ValueError(f"lipschitz_target must be positive, got {self.lipschitz_target!r}.")
        if self.relative_target is not None and not 0 < self.relative_target <= 1:
            raise ValueError(f"relative_target must lie in (0, 1], got {self.relative_target!r}.")
        if self.dual not in ("inequality", "literal"):
            raise ValueError(f"dual must be 'inequality' or 'literal', got {self.dual!r}.")


class AugmentedLagrangian:
    r"""The dual variable of one constraint :math:`c \le 0`, and the penalty that it makes.

    .. math::

        \frac{\max(0, \theta + \rho c)^2 - \theta^2}{2 \rho},
        \qquad \theta \leftarrow \max(0, \theta + \rho c)

    for an inequality; :math:`\theta c + \rho c^2 / 2` and :math:`\theta \leftarrow \theta + \rho c`
    in the literal form.

    Parameters
    ----------
    rho
        Positive.
    form
        ``inequality`` or ``literal``.

    Attributes
    ----------
    dual
        :math:`\theta`, from 0.

    Notes
    -----
    [RACL] Eq. 17 and 19. As printed they punish a bound below its target as well.
    """

    def __init__(self, rho: float, form: Literal["inequality", "literal"] = "inequality") -> None:
        self.rho = rho
        self.form = form
        self.dual = 0.0

    def penalty(self, c: Tensor) -> Tensor:
        """Give what is added to the loss, a scalar."""
        if self.form == "literal":
            return self.dual * c + self.rho / 2 * c**2
        return ((self.dual + self.rho * c).clamp(min=0) ** 2 - self.dual**2) / (2 * self.rho)

    def update(self, c: float) -> None:
        """Move the dual variable by the value of the constraint."""
        moved = self.dual + self.rho * c
        self.dual = moved if self.form == "literal" else max(0.0, moved)


class ADMM:
    r"""Updates of :math:`\mu`, :math:`\sigma` and the dual variable.

    Parameters
    ----------
    weights
        The log-normals.
    lagrangian
        Of the constraint; None does without.
    alternate
        Whether :math:`\sigma` moves after :math:`\mu`, on a loss of its own, or both at once.

    Notes
    -----
    [RACL] Eq. 17-19. Eq. 18 as printed takes both steps from the same point: at once.
    """

    def __init__(
        self,
        weights: LogNormalWeights,
        lagrangian: AugmentedLagrangian | None,
        *,
        alternate: bool = False,
    ) -> None:
        self.weights = weights
        self.lagrangian = lagrangian
        self.alternate = alternate and weights.confidence_learning

    def step(
        self,
        objective: Callable[[], Tensor],
        constraint: Callable[[], Tensor],
        optimizer: Any,
        backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> Tensor:
        """Take one step of each, and return the loss without the penalty.

        Parameters
        ----------
        objective
            Draws the weights and gives the loss.
        constraint
            Gives c.
        optimizer
            Of ``mu`` and ``log_sigma``.
        backward
            Computes gradients.

        Raises
        ------
        FloatingPointError
            If the loss or the constraint is not a finite number.
        """
        loss = torch.empty(0)
        for moved in self._blocks():
            optimizer.zero_grad()
            loss = objective()
            penalty = self._penalty(constraint)
            if not torch.isfinite(loss + penalty):
                raise FloatingPointError(
                    f"the architecture's loss became {loss.item()} and the penalty of its "
                    f"constraint {penalty.item()}. Lower the learning rates or clip gradients "
                    "(max_norm)."
                )
            backward(loss + penalty)
            for parameter in (self.weights.mu, self.weights.log_sigma):
                if all(parameter is not member for member in moved):
                    parameter.grad = None
            optimizer.step()
            self.weights.clamp()
        if self.lagrangian is not None:
            with torch.no_grad():
                self.lagrangian.update(constraint().item())
        return loss.detach()

    def _penalty(self, constraint: Callable[[], Tensor]) -> Tensor:
        if self.lagrangian is None:
            return torch.zeros((), device=self.weights.mu.device)
        return self.lagrangian.penalty(constraint())

    def _blocks(self) -> list[list[Tensor]]:
        mu, log_sigma = self.weights.mu, self.weights.log_sigma
        return [[mu], [log_sigma]] if self.alternate else [[mu, log_sigma]]
