"""The search loop of RACL, as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# NNI's strategies must be imported before its one-shot ones; see path_sampling.py.
import nni.nas.strategy  # noqa: F401  # isort: skip
import torch
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from torch import Tensor, optim

from nni_robust.functional.lognormal import confidence_constraint
from nni_robust.oneshot.admm import ADMM, AugmentedLagrangian
from nni_robust.oneshot.decidedness import decidedness
from nni_robust.oneshot.lipschitz_bound import LipschitzBound
from nni_robust.oneshot.lognormal import CurrentWeights
from nni_robust.oneshot.node import MixedEdge, MixedNode
from nni_robust.oneshot.options import BoundOptions, ConstraintOptions, LoopOptions

_STATE = "racl_state"
_ADAM_BETAS = (0.5, 0.999)  # as in DARTS and PC-DARTS


class RACLModule(BaseOneShotLightningModule):  # type: ignore[misc]  # NNI is untyped
    r"""The search loop: an architecture step on validation images, then a step of the network.

    .. math::

        \min_{\mu, \sigma} \mathbb{E}[\ell(w, \alpha, \beta)] \quad \text{so that} \quad
        c = \mu_F + \Phi^{-1}(\eta) \sigma_F^2 - \ln \lambda^* \le 0

    with fresh draws of :math:`\alpha` and :math:`\beta` for every batch.

    Parameters
    ----------
    training_module
        Lightning module that trains the network. If it attacks, it attacks the mixture of the
        current draw.
    current
        The weights that the supernet's choices use.
    nodes
        The nodes of the supernet, see :func:`nni_robust.oneshot.node_graph.connect_choices`.
    constraint, bound, loop
        The options of the search.
    seed
        Seed of the draws.

    Attributes
    ----------
    weights
        The log-normal variables of ``current``.
    log_target
        :math:`\ln \lambda^*`; None until a relative target is known.

    Notes
    -----
    [RACL] Alg. 1, first order. After every epoch it logs, in addition to the values of the training
    module, those of :meth:`report`, and ``prob/LABEL/CANDIDATE``, the shares of the medians.
    """

    def __init__(
        self,
        training_module: LightningModule,
        current: CurrentWeights,
        nodes: Sequence[MixedNode],
        *,
        constraint: ConstraintOptions,
        bound: BoundOptions,
        loop: LoopOptions,
        seed: int,
    ) -> None:
        super().__init__(training_module)
        self.current = current
        self.weights = current.log_normal
        self.nodes = list(nodes)
        self.constraint_options = constraint
        self.bound_options = bound
        self.loop_options = loop
        lagrangian = AugmentedLagrangian(constraint.rho, constraint.dual)
        self.admm = ADMM(
            self.weights,
            lagrangian if constraint.constrained else None,
            alternate=loop.alternate,
        )
        self.log_target: float | None = (
            math.log(constraint.lipschitz_target) if constraint.relative_target is None else None
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._steps = 0
        self._bound: LipschitzBound | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Train the architecture on one batch, then the network on another."""
        if self.trainer.current_epoch >= self.loop_options.warmup_epochs:
            self._architecture_step(batch["val"], batch_idx)
        with torch.no_grad():
            self.current.draw(self._generator)
        loss: Tensor = self.training_module.training_step(batch["train"], batch_idx)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the network's loss became {loss.item()} in epoch {self.trainer.current_epoch}. "
                "Lower the learning rate or clip gradients (max_norm)."
            )
        self.advance_optimization(loss, batch_idx, self.loop_options.max_norm)
        self.advance_lr_schedulers(batch_idx)
        if self.trainer.is_last_batch:
            self._end_epoch()
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the state of the search."""
        self.log_dict(self.report())
        self.log_probs(self.export_probs())
        self.training_module.on_train_epoch_end()

    @property
    def bound(self) -> LipschitzBound:
        """The Lipschitz bound of the supernet, which must have run once."""
        if self._bound is None:
            self._bound = LipschitzBound(
                self.nodes,
                self.weights.rows,
                self.bound_options,
                required=self.constraint_options.constrained,
            )
        return self._bound

    def report(self) -> dict[str, float]:
        """Return the state of the search, by the names under which it is logged.

        Returns
        -------
        dict
            ``constraint``, c, missing until a relative target is known; ``bound_mu`` and
            ``bound_variance``, of the logarithm of the bound; ``dual``; ``entropy`` and
            ``sureness`` of the choices of operations, see
            :func:`nni_robust.oneshot.decidedness.decidedness`; ``share/OPERATION``, the share of
            every operation in the bound.
        """
        with torch.no_grad():
            mu, variance = self.bound(*self.weights.underlying_normals())
            constraint = None if self.log_target is None else self._constraint(mu, variance)
        shares = self.bound.shares(self.weights)
        return {
            **({} if constraint is None else {"constraint": float(constraint)}),
            "bound_mu": float(mu),
            "bound_variance": float(variance),
            "dual": 0.0 if self.admm.lagrangian is None else self.admm.lagrangian.dual,
            **decidedness(self.weights, self._edges()),
            **{f"share/{name}": share for name, share in shares.items()},
        }

    def export(self) -> dict[str, Any]:
        """Return the sample of the candidates that rank first; the supernet uses its medians."""
        self.current.use_medians()
        sample: dict[str, Any] = super().export()
        return sample

    def configure_architecture_optimizers(self) -> optim.Optimizer:
        """Build Adam on the log-normal variables."""
        groups = [{"params": [self.weights.mu], "weight_decay": self.loop_options.weight_decay}]
        if self.weights.options.confidence_learning:
            groups.append({"params": [self.weights.log_sigma], "weight_decay": 0.0})
        return optim.Adam(groups, lr=self.loop_options.learning_rate, betas=_ADAM_BETAS)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the state of the search that is not in its parameters."""
        lagrangian = self.admm.lagrangian
        checkpoint[_STATE] = {
            "generator": self._generator.get_state(),
            "steps": self._steps,
            "log_target": self.log_target,
            "dual": None if lagrangian is None else lagrangian.dual,
            "bound": self.bound.state_dict(),
        }
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the search."""
        state = checkpoint[_STATE]
        self._generator.set_state(state["generator"].cpu())
        self._steps = state["steps"]
        self.log_target = state["log_target"]
        if self.admm.lagrangian is not None:
            self.admm.lagrangian.dual = state["dual"]
        # The constants depend on the sizes of the feature maps, and the network has not run yet.
        for edge, size in zip(self._edges(), state["bound"]["sizes"], strict=True):
            edge.size = (size[0], size[1])
        self._bound = None
        self.bound.load_state_dict(state["bound"])
        self.training_module.on_load_checkpoint(checkpoint)

    def _architecture_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.architecture_optimizers()
        assert optimizer is not None
        self.toggle_optimizer(optimizer)  # no gradients of the network's weights
        self.training_module.log = self._log_architecture
        try:
            self.admm.step(
                lambda: self._architecture_loss(batch, batch_idx),
                lambda: self._constraint(*self.bound(*self.weights.underlying_normals())),
                optimizer,
                self.manual_backward,
            )
        finally:
            self.training_module.log = self.log
            self.untoggle_optimizer(optimizer)
        self._steps += 1

    def _architecture_loss(self, batch: Any, batch_idx: int) -> Tensor:
        self.current.draw(self._generator)
        loss = self.training_module.training_step(batch, batch_idx)
        if self.admm.lagrangian is None:
            return loss  # type: ignore[no-any-return]
        if not self.bound.measured or self._steps % self.loop_options.refresh_every == 0:
            self.bound.refresh()
        if self.log_target is None:
            self._set_target()
        return loss  # type: ignore[no-any-return]

    def _end_epoch(self) -> None:
        # Callbacks measure and store the supernet with its medians. Before the first architecture
        # step, and without a constraint, nothing else measures its operations.
        self.current.use_medians()
        if self._steps == 0 or self.admm.lagrangian is None:
            self.bound.refresh()

    def _constraint(self, mu: Tensor, variance: Tensor) -> Tensor:
        return self._quantile(mu, variance) - (self.log_target or 0.0)

    def _quantile(self, mu: Tensor, variance: Tensor) -> Tensor:
        options = self.constraint_options
        return confidence_constraint(
            mu,
            variance,
            confidence=options.confidence,
            log_target=0.0,
            exact_sigma=options.exact_sigma,
        )

    def _set_target(self) -> None:
        kappa = self.constraint_options.relative_target
        assert kappa is not None
        with torch.no_grad():
            start = float(self._quantile(*self.bound(*self.weights.underlying_normals())))
        self.log_target = start - (1 - kappa) * abs(start)

    def _log_architecture(self, name: str, value: Any, **options: Any) -> None:
        self.log(f"architecture/{name}", value, **{**options, "prog_bar": False})

    def _edges(self) -> list[MixedEdge]:
        return [edge for node in self.nodes for edge in node.edges]
