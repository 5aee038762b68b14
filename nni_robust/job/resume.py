"""Training that can be interrupted: a checkpoint after every epoch."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from nni_robust.atomic import replacing
from nni_robust.results.weights import read_tensors


class EpochCheckpoint(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Write the state of the training after every epoch: whole, or not at all.

    Lightning's own callback writes in place, and beside a file that exists, under another name.

    Parameters
    ----------
    path
        The file, replaced each time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the state."""
        with replacing(self.path) as scratch:
            trainer.save_checkpoint(scratch)  # of several processes, the first writes


def resume_arguments(path: Path) -> dict[str, object]:
    """Give the arguments of Lightning's ``fit`` that go on from a checkpoint, if there is one.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    if not path.is_file():
        return {}
    read_tensors(path)
    return {"ckpt_path": str(path), "weights_only": True}
