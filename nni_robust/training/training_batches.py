"""Batches of a running training, for callbacks that look at training images again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pytorch_lightning as pl
from torch import Tensor

from nni_robust.training.free_training import Replayed


def training_batches(trainer: pl.Trainer, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first training batches, each once, on the device of the training.

    Parameters
    ----------
    trainer
        A trainer in the middle of a training. Its loader may be that of a one-shot strategy, which
        pairs training images with validation images.
    count
        Largest number of batches.
    """
    loader = trainer.train_dataloader
    if isinstance(loader, Mapping):
        loader = loader["train"]
    if isinstance(loader, Replayed):
        loader = loader.loader
    for x, y in itertools.islice(loader, count):
        yield trainer.strategy.batch_to_device((x, y))
