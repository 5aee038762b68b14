"""The search loop of RACL: network weights, log-normal weights, dual variable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# NNI's strategies must be imported before its one-shot ones; see path_sampling.py.
import nni.nas.strategy  # noqa: F401  # isort: skip
import torch
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from scipy.special import ndtr
from torch import Tensor, optim

from nni_robust.functional.lognormal import confidence_constraint
from nni_robust.oneshot.lagrangian import ADMM, AugmentedLagrangian, ConstraintOptions
from nni_robust.oneshot.lipschitz_bound import BoundOptions, LipschitzBound
from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.mixture import mixed_nodes
from nni_robust.oneshot.node import MixedEdge

_STATE = "racl_state"
_BETAS = (0.5, 0.999)  # of Adam, as in DARTS and PC-DARTS


class ADMMModule(BaseOneShotLightningModule):  # type: ignore[misc]  # NNI is untyped
    r"""Search loop: an architecture step on validation images, then a step of the network.

    .. math::

        \min_{\mu, \sigma} \mathbb{E}[\ell(w, \alpha, \beta)] \quad \text{so that} \quad
        c = \mu_F + \Phi^{-1}(\eta) \sigma_F^2 - \ln \lambda^* \le 0

    with fresh draws of :math:`\alpha` and :math:`\beta` for every batch.

    Parameters
    ----------
    training_module
        Lightning module that trains, and where it is adversarial attacks, the mixture of the draw.
    weights
        The log-normals.
    constraint, bound
        What is asked of the bound, and how it is taken.
    alternate
        See :class:`ADMM`.
    learning_rate, weight_decay
        Of Adam on :math:`\mu` and, without decay, on :math:`\ln \sigma`.
    warmup_epochs
        Epochs before the first architecture step.
    max_norm
        Largest norm of the network's gradient; None does not clip.
    refresh_every
        Architecture steps between two measurements of the operations' constants.
    seed
        Of the draws.

    Notes
    -----
    [RACL] Alg. 1, first order. Logs after every epoch, beside what the training module logs:
    ``constraint``, ``bound_mu``, ``bound_variance``, ``dual``, ``entropy`` (of the operations, as a
    share of the highest), ``sureness`` (probability that the first operation of an edge outweighs
    the second), and ``share/OPERATION`` in the
    bound; and ``prob/LABEL/CANDIDATE``, the shares of the medians.
    """

    def __init__(
        self,
        training_module: LightningModule,
        weights: LogNormalWeights,
        *,
        constraint: ConstraintOptions,
        bound: BoundOptions,
        alternate: bool,
        learning_rate: float,
        weight_decay: float,
        warmup_epochs: int,
        max_norm: float | None,
        refresh_every: int,
        seed: int,
    ) -> None:
        super().__init__(training_module)
        self.weights = weights
        self.constraint_options = constraint
        self.bound_options = bound
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.max_norm = max_norm
        self.refresh_every = refresh_every
        lagrangian = AugmentedLagrangian(constraint.rho, constraint.dual)
        self.admm = ADMM(
            weights, lagrangian if constraint.constrained else None, alternate=alternate
        )
        self.log_target: float | None = (
            math.log(constraint.lipschitz_target) if constraint.relative_target is None else None
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._steps = 0
        self._bound: LipschitzBound | None = None
        self._restored: Mapping[str, Any] | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Move the architecture on one batch, then the network on another."""
        if self.trainer.current_epoch >= self.warmup_epochs:
            self._architecture_step(batch["val"], batch_idx)
        with torch.no_grad():
            self.weights.draw(self._generator)
        loss: Tensor = self.training_module.training_step(batch["train"], batch_idx)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the network's loss became {loss.item()} in epoch {self.trainer.current_epoch}. "
                "Lower the learning rate or clip gradients (max_norm)."
            )
        self.advance_optimization(loss, batch_idx, self.max_norm)
        self.advance_lr_schedulers(batch_idx)
        if self.trainer.is_last_batch:
            self._rest()
        return loss

    def on_train_epoch_end(self) -> None:
        """Log where the search stands."""
        self.log_dict(self.report())
        self.log_probs(self.export_probs())
        self.training_module.on_train_epoch_end()

    @property
    def bound(self) -> LipschitzBound:
        """The bound of the supernet, once it has run."""
        if self._bound is None:
            nodes = mixed_nodes(self.model)
            if self._restored is not None:
                edges = [edge for node in nodes for edge in node.edges]
                for edge, size in zip(edges, self._restored["sizes"], strict=True):
                    edge.size = (size[0], size[1])
            self._bound = LipschitzBound(
                nodes,
                self.weights.rows,
                self.bound_options,
                required=self.admm.lagrangian is not None,
            )
            if self._restored is not None:
                self._bound.load_state_dict(self._restored)
        return self._bound

    def report(self) -> dict[str, float]:
        """Give where the search stands, by the names that are logged.

        There is no ``constraint`` as long as a relative target is not taken.
        """
        with torch.no_grad():
            mu, variance = self.bound(*self.weights.log_normals())
            constraint = None if self.log_target is None else self._constraint(mu, variance)
        shares = self.bound.shares(self.weights)
        return {
            **({} if constraint is None else {"constraint": float(constraint)}),
            "bound_mu": float(mu),
            "bound_variance": float(variance),
            "dual": 0.0 if self.admm.lagrangian is None else self.admm.lagrangian.dual,
            **_decidedness(self.weights, self._weighed_edges()),
            **{f"share/{name}": share for name, share in shares.items()},
        }

    def export(self) -> dict[str, Any]:
        """Give the sample of the candidates that rank first."""
        with torch.no_grad():  # a search that was resumed at its very end has drawn nothing
            self.weights.draw(None)
        seed = self._generator.initial_seed() + 1  # not the stream of the search's draws
        self.weights.settle(torch.Generator().manual_seed(seed))
        mixed_nodes(self.model)  # lets the inputs know the operations on their edges
        sample: dict[str, Any] = super().export()
        return sample

    def configure_architecture_optimizers(self) -> optim.Optimizer:
        """Build Adam on the log-normals."""
        groups = [{"params": [self.weights.mu], "weight_decay": self.weight_decay}]
        if self.weights.confidence_learning:
            groups.append({"params": [self.weights.log_sigma], "weight_decay": 0.0})
        return optim.Adam(groups, lr=self.learning_rate, betas=_BETAS)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the search has beside its parameters."""
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
        """Restore it."""
        state = checkpoint[_STATE]
        self._generator.set_state(state["generator"].cpu())
        self._steps = state["steps"]
        self.log_target = state["log_target"]
        if self.admm.lagrangian is not None:
            self.admm.lagrangian.dual = state["dual"]
        self._bound, self._restored = None, state["bound"]
        self.training_module.on_load_checkpoint(checkpoint)

    def _architecture_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.architecture_optimizers()
        assert optimizer is not None
        self.toggle_optimizer(optimizer)  # no gradients for the network's weights
        self.training_module.log = self._log_architecture
        try:
            self.admm.step(
                lambda: self._architecture_loss(batch, batch_idx),
                lambda: self._constraint(*self.bound(*self.weights.log_normals())),
                optimizer,
                self.manual_backward,
            )
        finally:
            self.training_module.log = self.log
            self.untoggle_optimizer(optimizer)
        self._steps += 1

    def _architecture_loss(self, batch: Any, batch_idx: int) -> Tensor:
        self.weights.draw(self._generator)
        loss = self.training_module.training_step(batch, batch_idx)
        if self.admm.lagrangian is None:
            return loss  # type: ignore[no-any-return]
        if not self.bound.measured or self._steps % self.refresh_every == 0:
            self.bound.refresh()
        if self.log_target is None:
            self._set_target()
        return loss  # type: ignore[no-any-return]

    def _rest(self) -> None:
        # Callbacks measure and store the supernet of the medians. Before the first architecture
        # step, and without a constraint, nothing else measures its operations.
        with torch.no_grad():
            self.weights.draw(None)
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
            start = float(self._quantile(*self.bound(*self.weights.log_normals())))
        self.log_target = start - (1 - kappa) * abs(start)

    def _log_architecture(self, name: str, value: Any, **options: Any) -> None:
        self.log(f"architecture/{name}", value, **{**options, "prog_bar": False})

    def _weighed_edges(self) -> list[MixedEdge]:
        edges = [edge for node in self.bound.nodes for edge in node.edges]
        return [edge for edge in edges if edge.label is not None]


def _decidedness(weights: LogNormalWeights, edges: list[MixedEdge]) -> dict[str, float]:
    """Entropy and sureness of the choices of operations, averaged over those with several.

    Operations that give zeros are left out: no training reaches their weights.
    """
    mu, variance = (table.detach() for table in weights.log_normals())
    entropies, surenesses = [], []
    for label, edge in {str(edge.label): edge for edge in edges}.items():
        live = torch.tensor(edge.live(), device=mu.device)
        row = weights.rows[label]
        medians, spreads = (table[row, : len(live)][live] for table in (mu, variance))
        if len(medians) < 2:
            continue
        shares = medians.softmax(0)
        entropies.append(float(-(shares * shares.log()).sum()) / math.log(len(medians)))
        first, second = medians.topk(2).indices.tolist()
        spread = float((spreads[first] + spreads[second]).sqrt())
        gap = float(medians[first] - medians[second])
        surenesses.append(float(ndtr(gap / spread)) if spread else float(gap > 0))
    if not entropies:
        return {}
    return {
        "entropy": sum(entropies) / len(entropies),
        "sureness": sum(surenesses) / len(surenesses),
    }
