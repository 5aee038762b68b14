"""Stop a training whose network has learned to fool the training attack only."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from nni_robust.attack import Attack
from nni_robust.network_state import evaluation_mode
from nni_robust.training.training_batches import training_batches

_logger = logging.getLogger(__name__)


class OverfittingGuard(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """End a training when its network withstands the training attack but not a stronger one.

    After every epoch both attacks attack the same training images. If the accuracy under the
    training attack leads by far more than in the most robust epoch, the weights of the last good
    epoch are restored, and the training ends with a warning in the log. A network that has only
    become worse is fooled by both attacks, and trains on.

    Parameters
    ----------
    attack
        The attack of the training.
    probe
        The stronger attack.
    rise
        How far the lead may rise, as a fraction of the images.
    num_images
        Smallest number of images to attack; whole batches are taken.
    seed
        Seed of the attacks.

    Attributes
    ----------
    collapsed
        The epoch, from 0, in which the lead rose; None if there is none.
    metrics
        The metrics logged in the last good epoch.
    """

    def __init__(
        self, attack: Attack, probe: Attack, *, rise: float, num_images: int = 256, seed: int = 0
    ) -> None:
        self.attack = attack
        self.probe = probe
        self.rise = rise
        self.num_images = num_images
        self.seed = seed
        self.collapsed: int | None = None
        self.metrics: dict[str, float] = {}
        self._best = -1.0
        self._lead = 0.0  # in the most robust epoch
        self._good: dict[str, Tensor] = {}
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if this guard has ended the training before it was resumed."""
        trainer.should_stop = trainer.should_stop or self.collapsed is not None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attack the network, then store its weights or restore those of the last good epoch."""
        if not self._batches:
            self._take_batches(trainer)
        network = pl_module.model
        weak, robust = (
            # Processes that train together must come to the same decision.
            float(trainer.strategy.reduce(self._accuracy(network, attack), reduce_op="mean"))
            for attack in (self.attack, self.probe)
        )
        pl_module.log("probe_robust", robust)
        lead = weak - robust
        if robust > self._best:
            self._best, self._lead = robust, max(lead, 0.0)
        if lead <= self._lead + self.rise:
            self._good = {k: v.detach().clone() for k, v in network.state_dict().items()}
            self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            return
        _logger.warning(
            "Catastrophic overfitting in epoch %d: accuracy is %.3f under the attack of the "
            "training and %.3f under %s (%.3f in the best epoch). The weights of the last good "
            "epoch are restored, and the training ends.",
            trainer.current_epoch,
            weak,
            robust,
            self.probe.name,
            self._best,
        )
        network.load_state_dict(self._good)
        self.collapsed = trainer.current_epoch
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {
            "collapsed": self.collapsed,
            "metrics": self.metrics,
            "best": self._best,
            "lead": self._lead,
            "good": self._good,
            "batches": self._batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.collapsed = state_dict["collapsed"]
        self.metrics = state_dict["metrics"]
        self._best = state_dict["best"]
        self._lead = state_dict["lead"]
        self._good = state_dict["good"]
        self._batches = state_dict["batches"]

    def _take_batches(self, trainer: pl.Trainer) -> None:
        """Store whole training batches until there are enough images."""
        for batch in training_batches(trainer, self.num_images):
            self._batches.append(batch)
            if sum(len(y) for _, y in self._batches) >= self.num_images:
                break

    def _accuracy(self, network: nn.Module, attack: Attack) -> Tensor:
        device = next(network.parameters()).device
        right = []
        with evaluation_mode(network):
            for x, y in self._batches:
                x, y = x.to(device), y.to(device)
                generator = torch.Generator().manual_seed(self.seed)
                x_adv = attack(network, x, y, generator=generator)
                with torch.no_grad():
                    right.append(network(x_adv).argmax(1) == y)
        return torch.cat(right).float().mean()
