"""Recipes: how the weights of a network are trained, under the names of their sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn, optim

from nni_robust.check import SettingError, check_choice
from nni_robust.training.objective import MART, PGDAT, TRADES, Clean, Fast, Free, Objective

_SCHEDULES = ("step", "cosine", "one_cycle", "constant")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    r"""How the weights of a network are trained: SGD, a learning rate per epoch, an objective.

    Attributes
    ----------
    learning_rate
        Highest learning rate. It is not scaled by the batch size; the rates in :data:`RECIPES` are
        for batches of 128.
    momentum, nesterov, weight_decay
        Parameters of SGD.
    decay_all
        Whether weight decay also acts on biases and on the weights of batch norms.
    schedule
        ``step`` divides by 10 at each milestone. ``cosine`` falls to ``final_share`` of the highest
        rate, ``one_cycle`` falls to it in a straight line, ``constant`` stays at the highest rate.
        All of them start after ``warmup``.
    milestones
        Fractions of the training at which ``step`` divides.
    final_share
        Fraction of the highest rate at which ``cosine`` and ``one_cycle`` end.
    warmup
        Fraction of the training in which the rate rises linearly to the highest rate.
    warmup_share
        Fraction of the highest rate at which the warm-up starts.
    max_norm
        Largest norm of the gradient; None does not clip.
    objective
        What is minimised, one of :data:`nni_robust.training.objective.OBJECTIVES`.
    label_smoothing
        Fraction of the cross-entropy's target that is spread over all classes.
    cutout
        Side of a black square in every training image, in pixels; 0 for none.
    ema
        Decay of an exponential moving average of the weights, which is measured and kept instead of
        the weights; None for no average. See
        :class:`nni_robust.training.averaging.WeightAverage`.
    awp
        Size of an adversarial perturbation of the weights, as a fraction of their norm; None for no
        perturbation. See :func:`nni_robust.training.weight_perturbation.weight_perturbation`.
    awp_warmup
        Fraction of the training before the weights are perturbed.
    auxiliary_weight
        Weight of the loss of an auxiliary head. Needs the objective ``clean`` and a network that
        returns a pair of logits in training mode.
    drop_path
        Highest probability that a path is dropped, reached linearly from 0. The network must have
        ``set_drop_path_prob``, as the DARTS networks of NNI's hub do.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_all: bool = True
    schedule: Literal["step", "cosine", "one_cycle", "constant"] = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    final_share: float = 0.0
    warmup: float = 0.0
    warmup_share: float = 0.1
    max_norm: float | None = None
    objective: Objective = PGDAT()  # noqa: RUF009  # an immutable value
    label_smoothing: float = 0.0
    cutout: int = 0
    ema: float | None = None
    awp: float | None = None
    awp_warmup: float = 0.0
    auxiliary_weight: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise SettingError(
                f"must be positive and finite, got {self.learning_rate!r}.", "learning_rate"
            )
        if self.max_norm is not None and not self.max_norm > 0:
            raise SettingError(f"must be positive or None, got {self.max_norm!r}.", "max_norm")
        if not all(0 < share <= 1 for share in self.milestones):
            raise SettingError(
                f"must be shares of the epochs in (0, 1], got {self.milestones!r}.", "milestones"
            )
        for name in ("momentum", "final_share", "warmup", "warmup_share", "awp_warmup"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise SettingError(f"must lie in [0, 1], got {value!r}.", name)
        for name in ("label_smoothing", "drop_path", "ema"):
            if not 0 <= ((value := getattr(self, name)) or 0) < 1:
                raise SettingError(f"must lie in [0, 1), got {value!r}.", name)
        for name in ("weight_decay", "cutout", "auxiliary_weight", "awp"):
            if ((value := getattr(self, name)) or 0) < 0:
                raise SettingError(f"must not be negative, got {value!r}.", name)
        check_choice("schedule", self.schedule, _SCHEDULES)
        self._check_together()

    def _check_together(self) -> None:
        if self.nesterov and not self.momentum:
            raise SettingError("must be False without momentum, got True.", "nesterov")
        if self.label_smoothing and isinstance(self.objective, MART):
            raise SettingError(
                f"must be 0 for the objective 'mart', got {self.label_smoothing!r}.",
                "label_smoothing",
            )
        if self.auxiliary_weight and not isinstance(self.objective, Clean):
            raise SettingError(
                "must be 0 unless the objective is 'clean', because an attack needs one "
                f"prediction, got {self.auxiliary_weight!r}.",
                "auxiliary_weight",
            )

    def for_finetuning(self) -> Recipe:
        """Return the recipe for inherited weights: a tenth of the rate, falling to 0.

        The papers do not give one.
        """
        return replace(
            self,
            learning_rate=self.learning_rate / 10,
            schedule="cosine",
            final_share=0.0,
            warmup=0.0,
        )

    def optimizer(self, network: nn.Module) -> optim.Optimizer:
        """Return an optimiser of the network's trainable weights."""
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
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

    def factor(self, num_epochs: int) -> Callable[[int], float]:
        """Return a function from the epoch, from 0, to the fraction of the highest rate.

        Parameters
        ----------
        num_epochs
            Length of the training in epochs.
        """

        def factor_at(epoch: int) -> float:
            # In floating point, 0.55 * 100 is slightly more than 55.
            climb, *milestones = (
                round(part * num_epochs, 6) for part in (self.warmup, *self.milestones)
            )
            if epoch < climb:
                return self.warmup_share + (1 - self.warmup_share) * epoch / climb
            if self.schedule in ("cosine", "one_cycle"):
                done = min((epoch - climb) / max(num_epochs - climb, 1), 1.0)
                left = 1 - done
                if self.schedule == "cosine":
                    left = (1 + math.cos(math.pi * done)) / 2
                return self.final_share + (1 - self.final_share) * left
            if self.schedule == "step":
                return 0.1 ** sum(epoch >= milestone for milestone in milestones)
            return 1.0

        return factor_at


RECIPES: dict[str, Recipe] = {
    # [RobNets] Table 5: /10 at epochs 100 and 150 of 200. Weight decay is not given there.
    "paper": Recipe(),
    # The released configurations: 20 epochs from 0.02 to 1.2 in batches of 1536, then 150 epochs
    # of cosine. Batches of 128 take a twelfth of the rate.
    "released": Recipe(
        decay_all=False,
        schedule="cosine",
        final_share=0.001 / 1.2,
        warmup=20 / 170,
        warmup_share=0.02 / 1.2,
    ),
    # [RACL] gives no optimiser. AdvRush retrains the same cell so: 200 epochs in batches of 64.
    "racl": Recipe(max_norm=5.0),
    # [RACL] Table 1, clean training: that of DARTS, 600 epochs in batches of 96.
    "racl_clean": Recipe(
        learning_rate=0.025,
        weight_decay=3e-4,
        schedule="cosine",
        max_norm=5.0,
        objective=Clean(),
        cutout=16,
        auxiliary_weight=0.4,
        drop_path=0.3,
    ),
    # TRADES with perturbed and averaged weights, 200 epochs: the highest published accuracy of a
    # ResNet-18 under AutoAttack without additional images or networks.
    "modern": Recipe(
        weight_decay=5e-4,
        objective=TRADES(beta=6.0),
        ema=0.9995,
        awp=0.005,
        awp_warmup=0.05,
    ),
    # Wong et al. (2020): 15 to 30 epochs, one cycle up to 0.2.
    "fast": Recipe(
        learning_rate=0.2,
        weight_decay=5e-4,
        schedule="one_cycle",
        warmup=0.4,
        objective=Fast(),
    ),
    # Shafahi et al. (2019) on ImageNet: 90 passes, that is 23 epochs of four replays, at a rate of
    # 0.1 in batches of 256.
    "free": Recipe(learning_rate=0.05, milestones=(1 / 3, 2 / 3), objective=Free(replays=4)),
}
