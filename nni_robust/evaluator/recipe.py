"""Optimiser settings under the names of their sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn, optim


@dataclass(frozen=True, kw_only=True)
class Recipe:
    r"""How the weights of a network are trained: SGD and a learning rate per epoch.

    Attributes
    ----------
    learning_rate
        Highest learning rate. It does not follow the batch size; those of :data:`RECIPES` are for
        batches of 128.
    momentum, weight_decay
        Of SGD.
    decay_all
        Whether weight decay also pulls at biases and at the weights of batch norms.
    schedule
        ``step`` divides by 10 at each milestone; ``cosine`` falls to ``final_share`` of the
        highest rate; ``constant`` does neither.
    milestones
        Shares of the training at which ``step`` divides.
    final_share
        Share of the highest rate at which ``cosine`` ends.
    warmup
        Share of the training in which the rate climbs linearly from ``warmup_share`` of the
        highest rate.
    warmup_share
        Where the climb begins.
    max_norm
        Largest norm of the gradient; None does not clip.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_all: bool = True
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    final_share: float = 0.0
    warmup: float = 0.0
    warmup_share: float = 0.1
    max_norm: float | None = None

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}.")
        for name in ("momentum", "final_share", "warmup", "warmup_share"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}.")
        if self.schedule not in ("step", "cosine", "constant"):
            raise ValueError(
                f"schedule must be 'step', 'cosine' or 'constant', got {self.schedule!r}."
            )

    def for_finetuning(self) -> Recipe:
        """Recipe for weights that are inherited: a tenth of the rate, falling to 0.

        The papers say nothing of it.
        """
        return replace(
            self,
            learning_rate=self.learning_rate / 10,
            schedule="cosine",
            final_share=0.0,
            warmup=0.0,
        )

    def optimizer(self, network: nn.Module) -> optim.Optimizer:
        """Build the optimiser of a network's weights."""
        weights = [p for p in network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": weights}]
        if not self.decay_all:
            groups = [
                {"params": [p for p in weights if p.dim() > 1]},
                {"params": [p for p in weights if p.dim() <= 1], "weight_decay": 0.0},
            ]
        return optim.SGD(
            [group for group in groups if group["params"]],
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def factor(self, num_epochs: int) -> Callable[[int], float]:
        """Give the share of the highest rate as a function of the epoch, from 0.

        Parameters
        ----------
        num_epochs
            Length of the training.
        """

        def share(epoch: int) -> float:
            climb = self.warmup * num_epochs
            if epoch < climb:
                return self.warmup_share + (1 - self.warmup_share) * epoch / climb
            if self.schedule == "cosine":
                done = (epoch - climb) / max(num_epochs - climb, 1)
                cosine = (1 + math.cos(math.pi * min(done, 1.0))) / 2
                return self.final_share + (1 - self.final_share) * cosine
            if self.schedule == "step":
                return 0.1 ** sum(epoch >= share * num_epochs for share in self.milestones)
            return 1.0

        return share


RECIPES: dict[str, Recipe] = {
    # [RobNets] Table 5: /10 at epochs 100 and 150 of 200. Weight decay is not given there.
    "paper": Recipe(),
    # The released configurations: 20 epochs from 0.02 to 1.2 at batch 1536, then 150 of cosine.
    # The rate is that for a batch of 128, a twelfth.
    "released": Recipe(
        decay_all=False,
        schedule="cosine",
        final_share=0.001 / 1.2,
        warmup=20 / 170,
        warmup_share=0.02 / 1.2,
    ),
}
