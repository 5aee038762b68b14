"""The strategy of RACL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy, no_default_hook
from pytorch_lightning.utilities.combined_loader import CombinedLoader

from nni_robust.check import SettingError, check_seed
from nni_robust.oneshot.lognormal import CurrentWeights, LogNormalWeights
from nni_robust.oneshot.mixture import (
    LogNormalMixedCell,
    LogNormalMixedInput,
    LogNormalMixedLayer,
)
from nni_robust.oneshot.node import MixedNode
from nni_robust.oneshot.node_graph import connect_choices, count_candidates
from nni_robust.oneshot.options import BoundOptions, ConstraintOptions, LoopOptions, WeightOptions
from nni_robust.oneshot.racl_module import RACLModule


class RACL(OneShotStrategy):  # type: ignore[misc]  # NNI is untyped
    r"""Search for an accurate network whose Lipschitz constant is small with high confidence.

    The weights of operations (alpha) and of inputs (beta) are log-normal variables. Their medians
    and spreads are trained together with the network:

    .. math::

        \min_{\mu, \sigma} \mathbb{E}[\ell] \quad \text{so that} \quad
        P(\lambda_F \le \lambda^*) \ge \eta.

    Works on :class:`nni_robust.space.RACLSpace` and on every space of NNI's LayerChoice,
    InputChoice and Cell. The search is adversarial if the evaluator is. The evaluator must have
    validation images; they train the architecture.

    Parameters
    ----------
    constraint
        The constraint on the bound; see :class:`nni_robust.oneshot.ConstraintOptions`.
    bound
        How the bound is computed; see :class:`nni_robust.oneshot.BoundOptions`.
    weights
        The log-normal weights and their ranking; see :class:`nni_robust.oneshot.WeightOptions`.
    loop
        Learning rate, warm-up and clipping; see :class:`nni_robust.oneshot.LoopOptions`.
    seed
        Seed of the initial weights and of the draws.
    mutation_hooks
        Twins of a user's own primitives; see NNI's one-shot strategies.

    Raises
    ------
    SettingError
        When it is initialised, if the space has no choices to weight, or none of its operations can
        be measured.

    Notes
    -----
    [RACL] Sec. 2 and 3.1. What the paper leaves open is an option; its documentation names the
    default. Weight decay on mu is the paper's. It pulls medians towards 1; with the softmax of
    PC-DARTS, from which it is taken, the pull would cancel.

    Settings files write the fields of the options as keys of the strategy:
    ``strategy: {name: racl, confidence: 0.9, rho: 0.001}``.

    Examples
    --------
    >>> from nni_robust.oneshot import ConstraintOptions
    >>> RACL(constraint=ConstraintOptions(confidence=0.7))
    RACL(confidence=0.7, rho=0.001)
    """

    def __init__(
        self,
        *,
        constraint: ConstraintOptions = ConstraintOptions(),  # noqa: B008  # an immutable value
        bound: BoundOptions = BoundOptions(),  # noqa: B008
        weights: WeightOptions = WeightOptions(),  # noqa: B008
        loop: LoopOptions = LoopOptions(),  # noqa: B008
        seed: int = 0,
        mutation_hooks: list[Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(mutation_hooks=mutation_hooks)
        check_seed(seed)
        self.constraint = constraint
        self.bound = bound
        self.weights = weights
        self.loop = loop
        self.seed = seed
        self._current: CurrentWeights | None = None
        self._nodes: list[MixedNode] = []

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Turn a space into its supernet, in place; NNI calls this."""
        sizes = count_candidates(model)
        if not sizes:
            raise SettingError(
                f"must have choices to weight (LayerChoice, InputChoice or Cell), but "
                f"{type(model).__name__} has none.",
                "space",
            )
        self._current = CurrentWeights(LogNormalWeights(sizes, self.weights, seed=self.seed))
        supernet = super().mutate_model(model)
        self._nodes = connect_choices(supernet)
        return supernet

    def run_hook(self, hook: Any, name: str, module: Any, memo: dict[str, Any]) -> Any:
        """Run a mutation hook and give it the weights; NNI calls this."""
        return hook(module, name, memo, {"weights": self._current})

    def default_mutation_hooks(self) -> list[Callable[..., Any]]:
        """Return the twins of NNI's choices, and a hook that refuses every other choice."""
        return [
            LogNormalMixedLayer.mutate,
            LogNormalMixedInput.mutate,
            LogNormalMixedCell.mutate,
            no_default_hook,
        ]

    def configure_oneshot_module(
        self, training_module: LightningModule
    ) -> BaseOneShotLightningModule:
        """Return the search loop around the evaluator's Lightning module."""
        assert self._current is not None  # NNI calls mutate_model first
        return RACLModule(
            training_module,
            self._current,
            self._nodes,
            constraint=self.constraint,
            bound=self.bound,
            loop=self.loop,
            seed=self.seed,
        )

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Return a loader of pairs: a batch of training and one of validation images per step."""
        loaders = {"train": train_dataloader_fn(), "val": val_dataloader_fn()}
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Return None: the validation images train the architecture."""
        return None

    def extra_repr(self) -> str:
        """Return what the paper's ablations vary."""
        return f"confidence={self.constraint.confidence}, rho={self.constraint.rho}"
