"""A guard against networks that learn to fool the attack of their training."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from nni_robust.attack import Attack
from nni_robust.evaluator.loader import training_batches

_logger = logging.getLogger(__name__)


class OverfittingGuard(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """End a training whose network no longer withstands a stronger attack than its training's.

    After every epoch one training batch is attacked. Where the accuracy has fallen, the network
    gets the weights of the last good epoch, and the training ends with a warning in the log.

    Parameters
    ----------
    attack
        The probe.
    fall
        By how much the accuracy may lie below its best so far.
    seed
        Of the attack.

    Attributes
    ----------
    collapsed
        Number of the epoch, from 0, in which the accuracy fell; None if there is none.
    """

    def __init__(self, attack: Attack, *, fall: float, seed: int = 0) -> None:
        self.attack = attack
        self.fall = fall
        self.seed = seed
        self.collapsed: int | None = None
        self._best = 0.0
        self._good: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a training ended that is resumed after it was ended."""
        trainer.should_stop = trainer.should_stop or self.collapsed is not None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Probe the network; note its weights, or put back those of the last good epoch."""
        robust = self._probe(trainer, pl_module)
        pl_module.log("probe_robust", robust)
        if robust >= self._best - self.fall:
            self._best = max(self._best, robust)
            state = pl_module.model.state_dict()
            self._good = {name: value.detach().clone() for name, value in state.items()}
            return
        _logger.warning(
            "Catastrophic overfitting in epoch %d: accuracy under %s fell from %.3f to %.3f. The "
            "training ends with the weights of the last good epoch.",
            trainer.current_epoch,
            self.attack.name,
            self._best,
            robust,
        )
        pl_module.model.load_state_dict(self._good)
        self.collapsed = trainer.current_epoch
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed training needs."""
        return {"collapsed": self.collapsed, "best": self._best, "good": self._good}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.collapsed = state_dict["collapsed"]
        self._best = state_dict["best"]
        self._good = state_dict["good"]

    def _probe(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
        network = pl_module.model
        x, y = next(training_batches(trainer, 1))
        was_training = network.training
        network.eval()
        try:
            generator = torch.Generator().manual_seed(self.seed)
            x_adv = self.attack(network, x, y, generator=generator)
            with torch.no_grad():
                return float((network(x_adv).argmax(1) == y).float().mean())
        finally:
            network.train(was_training)
