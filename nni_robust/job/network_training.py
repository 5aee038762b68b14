"""The training of one network: choose its best epoch, test it, record it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import nni
import pytorch_lightning as pl
import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack
from nni_robust.attack.base import check_count
from nni_robust.data import RobustDataModule
from nni_robust.evaluator.robustness import check_suite
from nni_robust.job.callbacks import report_intermediate
from nni_robust.job.measure import Measure, Metrics
from nni_robust.job.resume import EpochCheckpoint, resume_arguments
from nni_robust.job.training import Training, choose_device
from nni_robust.record import Record, read_records
from nni_robust.results.files import SearchFiles, write_chosen
from nni_robust.results.weights import load_weights, save_weights
from nni_robust.settings.grammar import describe, describe_call, flatten
from nni_robust.settings.networks import build_network, section_label
from nni_robust.space import PUBLISHED, PUBLISHED_DARTS
from nni_robust.training import Recipe


class BestEpoch(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Measure the network after every epoch, and keep the weights of the most robust one.

    Parameters
    ----------
    measure
        How; on validation images.
    path
        File of the weights, replaced whole.

    Attributes
    ----------
    best, last
        Accuracy under attack of the best epoch, and of the last one; -1 before the first.
    epoch
        Number of the best epoch, from 0.
    """

    def __init__(self, measure: Measure, path: Path) -> None:
        self.measure = measure
        self.path = path
        self.best = -1.0
        self.last = -1.0
        self.epoch = -1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after an epoch."""
        metrics = self.measure.quick(pl_module.model)
        self.last = metrics["default"]
        if self.last > self.best:
            self.best, self.epoch = self.last, trainer.current_epoch
            save_weights(self.path, pl_module.model)
        pl_module.log_dict({f"validation/{name}": value for name, value in metrics.items()})
        loss = float(trainer.callback_metrics["train_loss"])
        report_intermediate({**metrics, "best": self.best, "loss": loss})

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed training compares with."""
        return {"best": self.best, "last": self.last, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best = state_dict["best"]
        self.last = state_dict["last"]
        self.epoch = state_dict["epoch"]


def train_network(
    network: nn.Module,
    *,
    training: Training,
    recipe: Recipe,
    epochs: int,
    attack: Attack | None,
    measure: Measure,
    directory: Path,
) -> Metrics:
    """Train a network, or go on with it, and give it the weights of its best epoch.

    Parameters
    ----------
    network
        Changed in place.
    training
        The conditions.
    recipe, epochs, attack
        Of the training.
    measure
        Tells the best epoch, on the validation images of its data; these train the network.
    directory
        Folder of ``network.ckpt``, from which an interrupted training goes on, and of the weights
        of the best and of the last epoch, ``best.pt`` and ``last.pt``.

    Returns
    -------
    dict
        ``best_epoch``, its number from 0; ``best`` and ``last``, accuracies under the attack of the
        measure on validation images.
    """
    checkpoint = directory / "network.ckpt"
    keeper = BestEpoch(measure, directory / "best.pt")
    evaluator = training.evaluator(
        recipe, epochs, attack, [keeper, EpochCheckpoint(checkpoint)], data=measure.data
    )
    evaluator.fit_kwargs.update(resume_arguments(checkpoint))
    evaluator.evaluate(network)
    save_weights(directory / "last.pt", network)
    network.load_state_dict(load_weights(keeper.path))
    network.to(measure.device)
    return {"best_epoch": keeper.epoch, "best": keeper.best, "last": keeper.last}


@nni.trace
class NetworkTraining:
    """Train one network, choose its best epoch on validation images, attack it on test images.

    The whole is one call of :meth:`run`, and one trial of an NNI experiment. An interrupted
    training goes on from its last epoch.

    Parameters
    ----------
    data
        Images.
    directory
        Folder of the results.
    epochs, recipe, train_attack
        Length, recipe and attack of the training; None trains on clean images.
    test_attacks
        Suite of the tests; accuracy is that under the worst for each image.
    attack_mode
        Mode of batch norm under attack in training; see :class:`AdversarialClassification`.
    probe_attack
        Attack under which the network is measured after every epoch.
    probe_examples
        Validation images for that, or None for all.
    batch_size
        Images attacked at once, outside training.
    seed
        Of weights and attacks.
    device
        ``auto`` takes the accelerator if there is one.
    """

    def __init__(
        self,
        *,
        data: RobustDataModule,
        directory: str,
        epochs: int = 200,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        test_attacks: Sequence[Attack] = (FGSM(), PGD()),  # immutable values
        attack_mode: Literal["train", "eval"] = "train",
        probe_attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
        probe_examples: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
        device: Literal["auto", "cpu"] = "auto",
    ) -> None:
        check_count("epochs", epochs)
        check_count("batch_size", batch_size)
        if probe_examples is not None:
            check_count("probe_examples", probe_examples)
        check_suite("test_attacks", test_attacks)
        recipe.objective.attack(train_attack)  # refuses one that it cannot use
        self.files = SearchFiles(directory)
        self.epochs = epochs
        self.recipe = recipe
        self.train_attack = train_attack
        self.seed = seed
        chosen = choose_device(device)
        self.training = Training(
            directory=self.files.directory, attack_mode=attack_mode, seed=seed, device=chosen
        )
        self.measure = Measure(
            data=data,
            train_attack=probe_attack,
            test_attacks=list(test_attacks),
            screen_examples=probe_examples,
            batch_size=batch_size,
            seed=seed,
            device=chosen,
        )

    def run(self, section: Mapping[str, Any]) -> Metrics:
        """Do the whole training, or what is left of it.

        Parameters
        ----------
        section
            The network; see :func:`build_network`.

        Returns
        -------
        dict
            ``default`` and the other accuracies of the best epoch on validation images; ``test``
            and ``test_clean`` on test images; ``best_epoch``, and ``best`` and ``last``, what the
            best and the last epoch had under the attack of the probe; ``params_m``, parameters in
            millions.
        """
        settings = {
            "network": describe(section),
            "evaluator": {"name": "train", **describe_call(self)},
        }
        self.files.claim(flatten(settings))
        note = partial(self._note, section, settings, time.monotonic())
        metrics = self._known()
        if metrics is None:
            try:
                with torch.random.fork_rng():
                    torch.manual_seed(self.seed)
                    metrics = self._train(section, note)
            except Exception as error:
                note("train", {}, f"{type(error).__name__}: {error}")
                raise
        if nni.get_current_parameter() is not None:
            nni.report_final_result(metrics)
        return metrics

    def _train(self, section: Mapping[str, Any], note: Callable[..., Record]) -> Metrics:
        network = build_network(section, self.measure.data)
        found = train_network(
            network,
            training=self.training,
            recipe=self.recipe,
            epochs=self.epochs,
            attack=self.train_attack,
            measure=self.measure,
            directory=self.files.directory,
        )
        found["params_m"] = sum(p.numel() for p in network.parameters()) / 1e6
        validated = self.measure.full(network, "validation")
        tested = self.measure.full(network, "test")
        folder = self.files.directory / "final" / section_label(section)
        save_weights(folder / "weights.pt", network)
        record = note("final", {**tested, **found}, num_images=self.measure.num_images("test"))
        write_chosen(folder, record)  # last: with it the folder is complete
        metrics = {
            **validated,
            "test": tested["default"],
            "test_clean": tested["clean"],
            **found,
        }
        note("train", metrics)  # last: with it the training is complete
        return metrics

    def _known(self) -> Metrics | None:
        """Metrics of a training that was complete before, if its files are there."""
        finals = self.files.finals()
        complete = finals and all((folder / "weights.pt").is_file() for folder in finals)
        if not complete or not self.files.records.is_file():
            return None
        records = read_records(self.files.records)
        done = (r.metrics for r in records if r.stage == "train" and r.error is None)
        return next(done, None)

    def _note(
        self,
        section: Mapping[str, Any],
        settings: dict[str, Any],
        started: float,
        stage: str,
        metrics: Metrics,
        error: str | None = None,
        **details: int,
    ) -> Record:
        published = {**PUBLISHED, **PUBLISHED_DARTS}.get(str(section["name"]))
        record = Record(
            sample={},
            genotype=None if published is None else list(published.genotypes),
            stage=stage,
            metrics=metrics,
            settings=settings,
            seed=self.seed,
            error=error,
            details={"seconds": round(time.monotonic() - started, 1), **details},
        )
        record.append(self.files.records)
        return record
