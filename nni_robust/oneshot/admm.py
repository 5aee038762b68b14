"""ADMM: the steps of the log-normal variables, and of the dual variable of their constraint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.options import DualForm


class AugmentedLagrangian:
    r"""The dual variable of one constraint :math:`c \le 0`, and its penalty on the loss.

    .. math::

        \frac{\max(0, \theta + \rho c)^2 - \theta^2}{2 \rho},
        \qquad \theta \leftarrow \max(0, \theta + \rho c)

    for an inequality; :math:`\theta c + \rho c^2 / 2` and :math:`\theta \leftarrow \theta + \rho c`
    in the literal form.

    Parameters
    ----------
    rho
        Weight of the quadratic term, and step size of the dual variable; positive.
    form
        ``inequality`` or ``literal``.

    Attributes
    ----------
    dual
        :math:`\theta`; starts at 0.

    Notes
    -----
    [RACL] Eq. 17 and 19. As printed (``literal``) they also penalise a bound below its target.

    Examples
    --------
    >>> lagrangian = AugmentedLagrangian(rho=0.5)
    >>> lagrangian.penalty(torch.tensor(2.0))  # rho c^2 / 2
    tensor(1.)
    >>> lagrangian.update(2.0)
    >>> lagrangian.dual
    1.0
    """

    def __init__(self, rho: float, form: DualForm = "inequality") -> None:
        self.rho = rho
        self.form = form
        self.dual = 0.0

    def penalty(self, c: Tensor) -> Tensor:
        """Return the penalty, a scalar to add to the loss."""
        if self.form == "literal":
            return self.dual * c + self.rho / 2 * c**2
        return ((self.dual + self.rho * c).clamp(min=0) ** 2 - self.dual**2) / (2 * self.rho)

    def update(self, c: float) -> None:
        """Update the dual variable from the value of the constraint."""
        moved = self.dual + self.rho * c
        self.dual = moved if self.form == "literal" else max(0.0, moved)


class ADMM:
    r"""Updates of :math:`\mu`, :math:`\sigma` and the dual variable.

    Parameters
    ----------
    weights
        The log-normal variables.
    lagrangian
        Penalty and dual variable of the constraint; None searches without a constraint.
    alternate
        True moves :math:`\sigma` after :math:`\mu`, on a second loss; False moves both at once.

    Notes
    -----
    [RACL] Eq. 17--19. Eq. 18 as printed takes both steps from the same point, that is, at once.
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
        self.alternate = alternate and weights.options.confidence_learning

    def step(
        self,
        objective: Callable[[], Tensor],
        constraint: Callable[[], Tensor],
        optimizer: Any,
        backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> Tensor:
        """Take one step of every variable, and return the loss without the penalty.

        Parameters
        ----------
        objective
            Draws weights and returns the loss, a scalar. Called once per step of the optimizer.
        constraint
            Returns c, a scalar.
        optimizer
            Optimizer of ``mu`` and ``log_sigma``.
        backward
            Computes the gradients of a scalar.

        Raises
        ------
        FloatingPointError
            If the loss or the penalty is not finite.
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
