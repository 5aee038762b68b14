"""Free adversarial training: replayed batches and a perturbation that is carried along.

Shafahi et al., *Adversarial Training for Free!*, 2019. One backward pass gives the gradient of the
weights and that of the images. Every batch comes several times in a row, so that the perturbation
grows while the weights are trained. See :class:`nni_robust.training.objective.Free`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from nni_robust.attack import ThreatModel
from nni_robust.functional.projection import project_ball, project_image_range, steepest_ascent


class CarriedPerturbation:
    r"""A perturbation that is carried from one training step to the next.

    .. math:: \delta \leftarrow \Pi \bigl( \delta + s \operatorname*{arg\,max}_{\|d\|_p \le 1}
        \langle \nabla_x \ell(x + \delta), d \rangle \bigr)

    Parameters
    ----------
    threat_model
        Norm p and the ball to project onto.
    step_size
        Length s of a step.

    Attributes
    ----------
    delta
        One perturbation per position in the batch, shape (N, C, H, W); None before the first step.
    """

    def __init__(self, threat_model: ThreatModel, step_size: float) -> None:
        self.threat_model = threat_model
        self.step_size = step_size
        self.delta: Tensor | None = None
        self._x_adv: Tensor | None = None

    def images(self, x: Tensor) -> Tensor:
        """Return the perturbed batch; the backward pass leaves a gradient in it.

        A batch may be smaller than the ones before it. The positions beyond it keep their
        perturbation.
        """
        delta = x[:0] if self.delta is None else self.delta.to(x.device)
        self.delta = torch.cat([delta, torch.zeros_like(x[len(delta) :])])
        x_adv = project_image_range(x + self.delta[: len(x)]).detach().requires_grad_()
        self._x_adv = x_adv
        return x_adv

    def move(self) -> None:
        """Take one step along the gradient of the images returned last."""
        x_adv, self._x_adv = self._x_adv, None
        if x_adv is None or x_adv.grad is None or self.delta is None:
            return
        direction = steepest_ascent(x_adv.grad, norm=self.threat_model.norm)
        delta = self.delta[: len(x_adv)] + self.step_size * direction
        delta = project_ball(
            delta,
            torch.zeros_like(delta),
            norm=self.threat_model.norm,
            epsilon=self.threat_model.epsilon,
        )
        self.delta = torch.cat([delta, self.delta[len(x_adv) :]])


class Replayed:
    """A loader that yields every batch of another loader several times in a row.

    Parameters
    ----------
    loader
        Any loader.
    replays
        How often each batch comes.
    """

    #: Lightning passes the epoch to a loader's ``sampler`` and also reads ``batch_sampler``.
    batch_sampler: None = None

    def __init__(self, loader: Any, replays: int) -> None:
        self.loader = loader
        self.replays = replays

    @property
    def sampler(self) -> Any:
        """The sampler of the other loader, which shuffles the batches."""
        return getattr(self.loader, "sampler", None)

    def __len__(self) -> int:
        return len(self.loader) * self.replays

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield from itertools.repeat(batch, self.replays)


class ReplayedData(pl.LightningDataModule):  # type: ignore[misc]  # Lightning is untyped
    """A data module that yields every training batch of another one several times in a row.

    Parameters
    ----------
    data
        Any data module.
    replays
        How often each training batch comes.
    """

    def __init__(self, data: pl.LightningDataModule, replays: int) -> None:
        super().__init__()
        self.data = data
        self.replays = replays

    def prepare_data(self) -> None:
        """Prepare the other data module."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up the other data module."""
        self.data.setup(stage)

    def train_dataloader(self) -> Replayed:
        """Return a loader of the repeated training batches."""
        return Replayed(self.data.train_dataloader(), self.replays)

    def val_dataloader(self) -> Any:
        """Return the loader of the validation images, each once."""
        return self.data.val_dataloader()
