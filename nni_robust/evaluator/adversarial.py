"""An evaluator for NNI that trains a network against an attack."""

from __future__ import annotations

from typing import Any, Literal

import nni
import pytorch_lightning as pl
from nni.nas.evaluator.pytorch import Lightning, Trainer

from nni_robust.attack import PGD, Attack
from nni_robust.evaluator.report_to_nni import ReportToNNI
from nni_robust.training.adversarial_module import AdversarialClassificationModule
from nni_robust.training.averaging import WeightAverage
from nni_robust.training.free_training import Replayed, ReplayedData
from nni_robust.training.objective import Fast, Free
from nni_robust.training.overfitting_guard import OverfittingGuard
from nni_robust.training.recipe import Recipe


@nni.trace
class AdversarialClassification(Lightning):  # type: ignore[misc]  # NNI is untyped
    """Evaluator that trains a network against an attack.

    It makes the search of any NNI one-shot strategy adversarial.

    Parameters
    ----------
    data
        A Lightning data module of images in [0, 1], such as those of :mod:`nni_robust.data`; None
        if loaders are given.
    train_dataloaders, val_dataloaders
        Loaders of images and labels, instead of a data module. NNI sends an evaluator to trials in
        64 KB: a loader made by one of our data modules is sent as that module, and a torch
        ``DataLoader`` must be wrapped by ``nni.trace``.
    train_attack, validation_attack, recipe, attack_mode, seed
        See :class:`nni_robust.training.adversarial_module.AdversarialClassificationModule`.
    max_epochs
        Length of the training.
    callbacks
        Additional Lightning callbacks, by default one that reports to NNI.
    **trainer_kwargs
        Arguments of Lightning's ``Trainer``.
    """

    def __init__(
        self,
        *,
        data: pl.LightningDataModule | None = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        validation_attack: Attack | None = None,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        attack_mode: Literal["train", "eval"] = "train",
        seed: int = 0,
        max_epochs: int = 200,
        callbacks: list[pl.Callback] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        module = AdversarialClassificationModule(
            train_attack=train_attack,
            validation_attack=validation_attack,
            recipe=recipe,
            attack_mode=attack_mode,
            seed=seed,
        )
        if recipe.max_norm is not None:
            trainer_kwargs = {"gradient_clip_val": recipe.max_norm, **trainer_kwargs}
        if isinstance(recipe.objective, Free):
            replays = recipe.objective.replays
            data = None if data is None else ReplayedData(data, replays)
            if train_dataloaders is not None:
                train_dataloaders = Replayed(train_dataloaders, replays)
        trainer = Trainer(
            max_epochs=max_epochs,
            callbacks=[
                *_callbacks(recipe, train_attack, seed, module.train_attack),
                *([ReportToNNI()] if callbacks is None else callbacks),
            ],
            **trainer_kwargs,
        )
        super().__init__(
            module,
            trainer,
            train_dataloaders=train_dataloaders,
            val_dataloaders=val_dataloaders,
            datamodule=data,
        )


def _callbacks(
    recipe: Recipe, given: Attack | None, seed: int, attack: Attack | None
) -> list[pl.Callback]:
    """Return the callbacks that a recipe needs; they run before those that measure."""
    callbacks: list[pl.Callback] = []
    if recipe.ema is not None:
        # Free training has no attack of its own, so the given one makes the images instead.
        resembling = given if isinstance(recipe.objective, Free) else attack
        callbacks.append(WeightAverage(recipe.ema, attack=resembling, seed=seed))
    if isinstance(recipe.objective, Fast) and given is not None and attack is not None:
        rise = recipe.objective.guard
        callbacks.append(OverfittingGuard(attack, given, rise=rise, seed=seed))
    return callbacks
