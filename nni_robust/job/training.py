"""How the trainings of a search are set up, so that all of them run and are seen alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nni
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from nni_robust.attack import Attack
from nni_robust.evaluator import AdversarialClassification
from nni_robust.results.files import tensorboard_directory
from nni_robust.training import Recipe


@dataclass(frozen=True, kw_only=True)
class Training:
    """The conditions that the trainings of one search share.

    Attributes
    ----------
    directory
        Folder of the search.
    attack_mode
        Mode of batch norm under attack; see :class:`AdversarialClassification`.
    seed
        Of the attacks' random starts.
    device
        Where networks run.
    """

    directory: Path
    attack_mode: Literal["train", "eval"]
    seed: int
    device: torch.device

    def evaluator(
        self,
        recipe: Recipe,
        epochs: int,
        attack: Attack | None,
        callbacks: Sequence[pl.Callback],
        **data: Any,
    ) -> AdversarialClassification:
        """Set up one training.

        Parameters
        ----------
        recipe, epochs, attack
            Optimiser, length, and the inner maximisation.
        callbacks
            What measures and stores: validation batches are not run, since the callbacks measure
            with statistics that fit the network.
        **data
            A data module, ``data``, or loaders.
        """
        tensorboard = tensorboard_directory()
        return AdversarialClassification(
            **data,
            train_attack=attack,
            recipe=recipe,
            attack_mode=self.attack_mode,
            seed=self.seed,
            max_epochs=epochs,
            callbacks=list(callbacks),
            accelerator="cpu" if self.device.type == "cpu" else "auto",
            devices=1,
            logger=TensorBoardLogger(tensorboard, name="") if tensorboard else False,
            log_every_n_steps=1,
            limit_val_batches=0,
            enable_checkpointing=False,
            # In a trial nobody looks; elsewhere a terminal shows it.
            enable_progress_bar=nni.get_current_parameter() is None and sys.stderr.isatty(),
            enable_model_summary=False,
            default_root_dir=str(self.directory),
        )


def choose_device(device: Literal["auto", "cpu"]) -> torch.device:
    """Take the accelerator where there is one and it is not refused."""
    cuda = device == "auto" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")
