"""How the trainings of a job are set up, so that all of them run and are watched the same way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nni
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from nni_robust.attack import Attack
from nni_robust.evaluator import AdversarialClassification
from nni_robust.job.base import Conditions
from nni_robust.job.callbacks import EpochCheckpoint
from nni_robust.results.export import tensorboard_directory
from nni_robust.results.weights import read_tensors
from nni_robust.training import Recipe


def build_trainer(
    conditions: Conditions,
    *,
    recipe: Recipe,
    epochs: int,
    attack: Attack | None,
    callbacks: Sequence[pl.Callback],
    checkpoint: Path | None = None,
    **data: Any,
) -> AdversarialClassification:
    """Set up one training under the conditions of a job.

    Parameters
    ----------
    conditions
        Folder, mode of batch norm under attack, seed and device.
    recipe, epochs, attack
        Optimiser, length, and the attack on training images; None trains on clean images.
    callbacks
        They measure and save. Validation batches are not run, since the callbacks measure with
        batch-norm statistics that fit the network.
    checkpoint
        File that keeps the state of the training after every epoch. If it exists, the training
        continues from it.
    **data
        A data module, ``data``, or loaders.

    Raises
    ------
    SettingError
        If the checkpoint is damaged.
    """
    tensorboard = tensorboard_directory()
    trainer = AdversarialClassification(
        **data,
        train_attack=attack,
        recipe=recipe,
        attack_mode=conditions.attack_mode,
        seed=conditions.seed,
        max_epochs=epochs,
        callbacks=[*callbacks, *([] if checkpoint is None else [EpochCheckpoint(checkpoint)])],
        accelerator="cpu" if conditions.torch_device.type == "cpu" else "auto",
        devices=1,
        logger=TensorBoardLogger(tensorboard, name="") if tensorboard else False,
        log_every_n_steps=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        # In a trial nobody looks; elsewhere a terminal shows the bar.
        enable_progress_bar=nni.get_current_parameter() is None and sys.stderr.isatty(),
        enable_model_summary=False,
        default_root_dir=str(conditions.files.directory),
    )
    if checkpoint is not None and checkpoint.is_file():
        read_tensors(checkpoint)  # a damaged file is named
        trainer.fit_kwargs.update(ckpt_path=str(checkpoint), weights_only=True)
    return trainer
