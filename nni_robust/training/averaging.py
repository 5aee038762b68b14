"""Exponential moving average of the weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from nni_robust.attack import Attack
from nni_robust.network_state import tracking_norms
from nni_robust.training.batch_norm import reestimate_batch_norm
from nni_robust.training.training_batches import training_batches


class MovingAverage:
    r"""Exponential moving average of tensors that forgets the initial weights.

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
        The averages, in the order of the tensors.

    Notes
    -----
    ``torch.optim.swa_utils`` has no such average: its exponential one starts at the first weights
    and keeps a share of them.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.values: list[Tensor] = []

    def update(self, tensors: Iterable[Tensor]) -> None:
        """Add the next value of every tensor to its average."""
        current = [tensor.detach() for tensor in tensors]
        self.count += 1
        if self.count == 1:
            self.values = [tensor.clone() for tensor in current]
            return
        newest = (1 - self.decay) / (1 - self.decay**self.count)
        for value, tensor in zip(self.values, current, strict=True):
            value.lerp_(tensor, newest)


class WeightAverage(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Average the weights over the steps, and give the network the averages between epochs.

    At the end of every epoch and during validation the network holds the averages, with batch-norm
    statistics taken anew. The next batch continues from the network's own weights. After the
    training the network keeps the averages.

    Parameters
    ----------
    decay
        See :class:`MovingAverage`.
    attack
        Attack of the training images that the statistics are taken from; None takes them
        unattacked.
    num_batches
        Number of these batches.
    seed
        Seed of the attack.

    Notes
    -----
    Izmailov et al., *Averaging Weights Leads to Wider Optima and Better Generalization*, 2018, for
    the statistics. Lightning's ``WeightAveraging`` holds the averages only in a validation loop,
    which a search does not run, and takes no new statistics.
    """

    def __init__(
        self, decay: float, *, attack: Attack | None, num_batches: int = 20, seed: int = 0
    ) -> None:
        self.average = MovingAverage(decay)
        self.attack = attack
        self.num_batches = num_batches
        self.seed = seed
        self._own: list[Tensor] | None = None  # the network's own tensors while it holds averages
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move averages from a checkpoint to the device of the weights."""
        self.average.values = [value.to(pl_module.device) for value in self.average.values]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Give the network its own weights back."""
        if self._own is None:
            return
        _copy(self._own, [*_weights(trainer), *_statistics(pl_module.model)])
        self._own = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the averages if the optimiser has taken a step."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self.average.update(_weights(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the averages into the network."""
        if not trainer.sanity_checking:
            self._hold_averages(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the averages into the network."""
        self._hold_averages(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, and the network's own weights while it holds the averages."""
        return {
            "count": self.average.count,
            "values": self.average.values,
            "own": self._own,
            "steps": self._steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.average.count = state_dict["count"]
        self.average.values = state_dict["values"]
        self._own = state_dict["own"]
        self._steps = state_dict["steps"]

    def _hold_averages(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
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
    """Return the weights of the first optimiser; a one-shot strategy adds its own after it."""
    return [weight for group in trainer.optimizers[0].param_groups for weight in group["params"]]


def _statistics(network: nn.Module) -> list[Tensor]:
    return [t for norm in tracking_norms(network) for t in norm.buffers(recurse=False)]


def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)
