"""The strategy of RACL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy, no_default_hook
from pytorch_lightning.utilities.combined_loader import CombinedLoader

from nni_robust.oneshot.admm import ADMMModule
from nni_robust.oneshot.lagrangian import ConstraintOptions
from nni_robust.oneshot.lipschitz_bound import BoundOptions
from nni_robust.oneshot.lognormal import LogNormalWeights, Rank
from nni_robust.oneshot.mixture import (
    LogNormalMixedCell,
    LogNormalMixedInput,
    LogNormalMixedLayer,
    count_candidates,
)


class RACL(OneShotStrategy):  # type: ignore[misc]  # NNI is untyped
    r"""Search under a constraint on the confidence that the network's Lipschitz constant is small.

    Weights of operations (alpha) and of inputs (beta) are log-normal variables; their medians and
    spreads are trained with the network, by

    .. math::

        \min_{\mu, \sigma} \mathbb{E}[\ell] \quad \text{so that} \quad
        P(\lambda_F \le \lambda^*) \ge \eta.

    Works on :class:`nni_robust.space.RACLSpace` and on every space of NNI's LayerChoice,
    InputChoice and Cell. The search is adversarial if the evaluator is. Validation images, which
    the evaluator must have, train the architecture.

    Parameters
    ----------
    confidence, rho, lipschitz_target, relative_target, constrained, dual, exact_sigma
        The constraint; see :class:`nni_robust.oneshot.lagrangian.ConstraintOptions`.
    confidence_learning
        False is the paper's ablation: sigma is 0, the bound a number.
    lipschitz, fold_batch_norm, pooling, constants, eq12, cell_correlation
        How the bound is taken; see :class:`nni_robust.oneshot.lipschitz_bound.BoundOptions`.
    alternate
        Whether sigma moves after mu, or both at once.
    normalize, initial_sigma, rank, rank_deviations
        The log-normals; see :class:`nni_robust.oneshot.lognormal.LogNormalWeights`. An input ranks
        by its own number plus that of the best operation on its edge.
    learning_rate, weight_decay
        Of Adam on the architecture.
    warmup_epochs
        Epochs before the first architecture step.
    max_norm
        Largest norm of the network's gradient; None does not clip.
    refresh_every
        Architecture steps between two measurements of the operations' constants.
    seed
        Of start and draws.
    mutation_hooks
        Twins of a user's own primitives; see NNI's one-shot strategies.

    Raises
    ------
    ValueError
        When it is initialised, if the space has nothing to weigh.

    Notes
    -----
    [RACL] Sec. 2 and 3.1; what the paper leaves open is an option, its default named there. Weight
    decay is that of the paper, on mu: it pulls medians towards 1, where softmax, for which PC-DARTS
    has it, would cancel the pull.
    """

    def __init__(
        self,
        *,
        confidence: float = 0.9,
        rho: float = 0.001,
        lipschitz_target: float = 1.0,
        relative_target: float | None = None,
        constrained: bool = True,
        dual: Literal["inequality", "literal"] = "inequality",
        exact_sigma: bool = False,
        confidence_learning: bool = True,
        lipschitz: Literal["operator", "layers", "reshaped"] = "operator",
        fold_batch_norm: bool = False,
        pooling: Literal["paper", "operator"] = "paper",
        constants: Mapping[str, float] | None = None,
        eq12: Literal["corrected", "printed"] = "corrected",
        cell_correlation: Literal["independent", "shared"] = "independent",
        alternate: bool = False,
        normalize: bool = False,
        initial_sigma: float = 0.1,
        rank: Rank = "median",
        rank_deviations: float = 1.0,
        learning_rate: float = 6e-4,
        weight_decay: float = 1e-3,
        warmup_epochs: int = 15,
        max_norm: float | None = 5.0,
        refresh_every: int = 50,
        seed: int = 0,
        mutation_hooks: list[Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(mutation_hooks=mutation_hooks)
        if not learning_rate > 0 or weight_decay < 0:
            raise ValueError(
                f"learning_rate must be positive and weight_decay not negative, "
                f"got {learning_rate!r} and {weight_decay!r}."
            )
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be positive or None, got {max_norm!r}.")
        if warmup_epochs < 0 or refresh_every < 1:
            raise ValueError(
                f"warmup_epochs must be at least 0 and refresh_every at least 1, "
                f"got {warmup_epochs!r} and {refresh_every!r}."
            )
        self.constraint = ConstraintOptions(
            constrained=constrained,
            confidence=confidence,
            rho=rho,
            lipschitz_target=lipschitz_target,
            relative_target=relative_target,
            dual=dual,
            exact_sigma=exact_sigma,
        )
        self.bound = BoundOptions(
            lipschitz=lipschitz,
            fold_batch_norm=fold_batch_norm,
            pooling=pooling,
            constants=dict(constants or {}),
            eq12=eq12,
            cell_correlation=cell_correlation,
        )
        self._weights_options: dict[str, Any] = {
            "initial_sigma": initial_sigma,
            "confidence_learning": confidence_learning,
            "normalize": normalize,
            "rank": rank,
            "rank_deviations": rank_deviations,
            "seed": seed,
        }
        LogNormalWeights({}, **self._weights_options)  # refuses wrong options now
        self._loop_options: dict[str, Any] = {
            "alternate": alternate,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup_epochs": warmup_epochs,
            "max_norm": max_norm,
            "refresh_every": refresh_every,
            "seed": seed,
        }
        self._weights: LogNormalWeights | None = None

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Turn a space into its supernet, in place; NNI calls this."""
        sizes = count_candidates(model)
        if not sizes:
            raise ValueError(
                f"space must have choices to weigh, LayerChoice, InputChoice or Cell, but "
                f"{type(model).__name__} has none."
            )
        self._weights = LogNormalWeights(sizes, **self._weights_options)
        return super().mutate_model(model)

    def run_hook(self, hook: Any, name: str, module: Any, memo: dict[str, Any]) -> Any:
        """Run a mutation hook with the table of weights at hand; NNI calls this."""
        return hook(module, name, memo, {"weights": self._weights})

    def default_mutation_hooks(self) -> list[Callable[..., Any]]:
        """Twins of NNI's choices; what is left over is refused."""
        return [
            LogNormalMixedLayer.mutate,
            LogNormalMixedInput.mutate,
            LogNormalMixedCell.mutate,
            no_default_hook,
        ]

    def configure_oneshot_module(
        self, training_module: LightningModule
    ) -> BaseOneShotLightningModule:
        """Wrap the evaluator's Lightning module by the search loop."""
        assert self._weights is not None
        return ADMMModule(
            training_module,
            self._weights,
            constraint=self.constraint,
            bound=self.bound,
            **self._loop_options,
        )

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Give a batch of training and one of validation images to every step."""
        loaders = {"train": train_dataloader_fn(), "val": val_dataloader_fn()}
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Give nothing: the validation images train the architecture."""
        return None

    def extra_repr(self) -> str:
        """Name what the ablations vary."""
        return f"confidence={self.constraint.confidence}, rho={self.constraint.rho}"
