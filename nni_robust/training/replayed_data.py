"""The training images of a running training, and loaders that give them repeatedly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor


class Replayed:
    """A loader that gives every batch of another several times in a row.

    Parameters
    ----------
    loader
        Of batches.
    replays
        Times that a batch comes.
    """

    #: Lightning tells the epoch to what a loader names as its sampler, and asks for both names.
    batch_sampler: None = None

    def __init__(self, loader: Any, replays: int) -> None:
        self.loader = loader
        self.replays = replays

    @property
    def sampler(self) -> Any:
        """What shuffles the batches."""
        return getattr(self.loader, "sampler", None)

    def __len__(self) -> int:
        return len(self.loader) * self.replays

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield from itertools.repeat(batch, self.replays)


class ReplayedData(pl.LightningDataModule):  # type: ignore[misc]  # Lightning is untyped
    """A data module whose training batches come several times in a row.

    Parameters
    ----------
    data
        The module whose batches they are.
    replays
        Times that a training batch comes.
    """

    def __init__(self, data: pl.LightningDataModule, replays: int) -> None:
        super().__init__()
        self.data = data
        self.replays = replays

    def prepare_data(self) -> None:
        """Do what the data need before they can be read."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the data."""
        self.data.setup(stage)

    def train_dataloader(self) -> Replayed:
        """Make a loader of the repeated batches."""
        return Replayed(self.data.train_dataloader(), self.replays)

    def val_dataloader(self) -> Any:
        """Make a loader of the validation images, once each."""
        return self.data.val_dataloader()


def training_batches(trainer: pl.Trainer, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the first batches of the training images, on the device of the training.

    Parameters
    ----------
    trainer
        In a training; a one-shot strategy may have joined its training with validation images.
    count
        How many, if there are as many.
    """
    loader = trainer.train_dataloader
    if isinstance(loader, Mapping):
        loader = loader["train"]
    if isinstance(loader, Replayed):
        loader = loader.loader
    for x, y in itertools.islice(loader, count):
        yield trainer.strategy.batch_to_device((x, y))
