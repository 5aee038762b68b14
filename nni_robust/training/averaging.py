"""Averages of the weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nni_robust.attack import Attack
from nni_robust.training.batch_norm import reestimate_batch_norm
from nni_robust.training.replayed_data import training_batches


class MovingAverage:
    r"""Exponential moving average of tensors, without a trace of where it began.

    .. math:: \bar{w}_t = \frac{\sum_{k=1}^t \tau^{t-k} w_k}{\sum_{k=1}^t \tau^{t-k}}

    Parameters
    ----------
    decay
        :math:`\tau`, in [0, 1).

    Attributes
    ----------
    count
        The number t of updates.
    values
        The averages, one tensor each.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.values: list[Tensor] = []

    def update(self, tensors: Iterable[Tensor]) -> None:
        """Take in the next value of every tensor."""
        current = [tensor.detach() for tensor in tensors]
        self.count += 1
        if self.count == 1:
            self.values = [tensor.clone() for tensor in current]
            return
        share = (1 - self.decay) / (1 - self.decay**self.count)
        for value, tensor in zip(self.values, current, strict=True):
            value.lerp_(tensor, share)


class WeightAverage(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Average the weights over the steps, and measure the average in their place.

    From the end of every epoch, and during validation, the network holds the averages, and
    statistics of batch norm that are taken of it anew; with the next batch it goes on from its own
    weights. After the training it holds the averages.

    Parameters
    ----------
    decay
        See :class:`MovingAverage`.
    attack
        Of the training images that the statistics are taken of; None takes them as they are.
    num_batches
        Number of batches of these.
    seed
        Of the attack.

    Notes
    -----
    Izmailov et al., *Averaging Weights Leads to Wider Optima and Better Generalization*, 2018, for
    the statistics.
    """

    def __init__(
        self, decay: float, *, attack: Attack | None, num_batches: int = 20, seed: int = 0
    ) -> None:
        self.average = MovingAverage(decay)
        self.attack = attack
        self.num_batches = num_batches
        self.seed = seed
        self._own: list[Tensor] | None = None  # the network's own, while it holds the averages
        self._steps = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Give the network its own weights back."""
        if self._own is None:
            return
        held = [*_weights(trainer), *_statistics(pl_module.model)]
        _copy(self._own, held)
        self._own = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the weights in, if they were moved."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self.average.update(_weights(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the network hold the averages."""
        if not trainer.sanity_checking:
            self._enter(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the network hold the averages."""
        self._enter(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Give the averages, and the network's own weights where it holds those."""
        return {
            "count": self.average.count,
            "values": self.average.values,
            "own": self._own,
            "steps": self._steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.average.count = state_dict["count"]
        self.average.values = state_dict["values"]
        self._own = state_dict["own"]
        self._steps = state_dict["steps"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring what comes from a checkpoint to the device of the weights."""
        self.average.values = [value.to(pl_module.device) for value in self.average.values]

    def _enter(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._own is not None or not self.average.count:
            return
        weights = _weights(trainer)
        network = pl_module.model
        self._own = [t.detach().clone() for t in (*weights, *_statistics(network))]
        _copy(self.average.values, weights)
        if _statistics(network):
            reestimate_batch_norm(
                network,
                training_batches(trainer, self.num_batches),
                attack=self.attack,
                generator=torch.Generator().manual_seed(self.seed),
            )


def _weights(trainer: pl.Trainer) -> list[Tensor]:
    """List the weights of the first optimiser: a one-shot strategy has its own after it."""
    return [weight for group in trainer.optimizers[0].param_groups for weight in group["params"]]


def _statistics(network: nn.Module) -> list[Tensor]:
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)
