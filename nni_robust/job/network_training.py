"""The training of one network: select its best epoch, test it, record it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from nni_robust.attack import PGD, Attack
from nni_robust.check import SettingError, check_count
from nni_robust.data import RobustDataModule
from nni_robust.job.base import Conditions, Job, Metrics
from nni_robust.job.callbacks import BestEpoch
from nni_robust.job.journal import Journal
from nni_robust.job.measure import Probe, network_size
from nni_robust.job.trainer import build_trainer
from nni_robust.results.chosen import write_chosen
from nni_robust.results.weights import load_weights, save_weights
from nni_robust.settings.description import describe_arguments
from nni_robust.settings.networks import build_network, check_fit, section_label
from nni_robust.space import PUBLISHED
from nni_robust.training import Recipe


def train_network(
    network: nn.Module,
    *,
    conditions: Conditions,
    probe: Probe,
    recipe: Recipe,
    epochs: int,
    attack: Attack | None,
) -> Metrics:
    """Train a network, or continue its training, and load the weights of its best epoch.

    Parameters
    ----------
    network
        Changed in place.
    conditions
        Training images, folder and the rest. The folder keeps ``network.ckpt``, from which an
        interrupted training continues, ``best.pt`` and ``last.pt``.
    probe
        Measures every epoch on validation images; the best epoch has the highest accuracy under
        its attack.
    recipe, epochs, attack
        Recipe, length and attack of the training.

    Returns
    -------
    dict
        ``best_epoch``, its number from 0; ``best`` and ``last``, the accuracies of the probe after
        the best and the last epoch.
    """
    folder = conditions.files.directory
    keeper = BestEpoch(probe, folder / "best.pt")
    trainer = build_trainer(
        conditions,
        recipe=recipe,
        epochs=epochs,
        attack=attack,
        callbacks=[keeper],
        checkpoint=folder / "network.ckpt",
        data=conditions.data,
    )
    trainer.evaluate(network)
    save_weights(folder / "last.pt", network)
    network.load_state_dict(load_weights(keeper.path))
    network.to(conditions.torch_device)
    return {"best_epoch": keeper.epoch, "best": keeper.best, "last": keeper.last}


class NetworkTraining(Job):
    """Train one network, select its best epoch on validation images, attack it on test images.

    An interrupted training continues from its last epoch.

    Parameters
    ----------
    network
        Section of the network; see :func:`~nni_robust.settings.networks.build_network`.
    conditions
        Images, folder, attacks, seed and device.
    epochs, recipe, train_attack
        Length, recipe and attack of the training; None trains on clean images.
    probe_attack, probe_examples
        Attack and number of validation images (None for all) of the measurement after every
        epoch.

    Raises
    ------
    SettingError
        If a value is out of range, or the network does not fit the images or the recipe.
    """

    def __init__(
        self,
        *,
        network: Mapping[str, Any],
        conditions: Conditions,
        epochs: int = 200,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        probe_attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
        probe_examples: int | None = None,
    ) -> None:
        super().__init__(seed=conditions.seed, stage="train")
        check_count("epochs", epochs)
        if probe_examples is not None:
            check_count("probe_examples", probe_examples)
        recipe.objective.attack(train_attack)  # refuses an attack that it cannot use
        _check_network(build_network(network, conditions.data), conditions, recipe)
        self.network = network
        self.conditions = conditions
        self.epochs = epochs
        self.recipe = recipe
        self.train_attack = train_attack
        self.probe_attack = probe_attack
        self.probe_examples = probe_examples
        self.probe = Probe(conditions=conditions, attack=probe_attack, num_examples=probe_examples)

    @property
    def data(self) -> RobustDataModule:
        """The images."""
        return self.conditions.data

    def journal(self) -> Journal:
        """Claim the folder of the training."""
        evaluator = describe_arguments(self)
        network = evaluator.pop("network")
        del evaluator["tags"]
        published = PUBLISHED.get(str(self.network["name"]))
        return Journal(
            self.conditions.files,
            {"network": network, "evaluator": {"name": "train", **evaluator}},
            seed=self.seed,
            tags=self.conditions.tags,
            genotypes=lambda sample: None if published is None else published.genotypes,
        )

    def work(self, journal: Journal) -> Metrics:
        """Train, test and record the network.

        Returns
        -------
        dict
            ``default`` and the other accuracies of the best epoch on validation images; ``test``
            and ``test_clean`` on test images; ``best_epoch``, ``best`` and ``last``, see
            :func:`train_network`; ``num_parameters``.
        """
        known = journal.known(self.stage, {})
        if known is not None and self._weights.is_file():
            return known
        network = build_network(self.network, self.conditions.data)
        found = train_network(
            network,
            conditions=self.conditions,
            probe=self.probe,
            recipe=self.recipe,
            epochs=self.epochs,
            attack=self.train_attack,
        )
        found |= network_size(network)
        validated = self.conditions.accuracies(network, "validation")
        tested = self.conditions.accuracies(network, "test")
        save_weights(self._weights, network)
        details = {"num_images": self.conditions.num_images("test")}
        record = journal.note("final", {}, {**tested, **found}, details=details)
        write_chosen(self._weights.parent, record)  # it marks the folder as complete
        metrics = {
            **validated,
            "test": tested["default"],
            "test_clean": tested["clean"],
            **found,
        }
        details = {"num_images": self.conditions.num_images("validation")}
        journal.note(
            self.stage, {}, metrics, details=details
        )  # last: it marks the training as done
        return metrics

    @property
    def _weights(self) -> Path:
        folder = self.conditions.files.directory / "final" / section_label(self.network)
        return folder / "weights.pt"


def _check_network(network: nn.Module, conditions: Conditions, recipe: Recipe) -> None:
    check_fit(network.eval(), conditions.data)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise SettingError(
            f"must have weights to train, but a {type(network).__name__} has none.", "network"
        )
    if recipe.drop_path and not hasattr(network, "set_drop_path_prob"):
        raise SettingError(
            "must be 0 for a network without set_drop_path_prob, such as a "
            f"{type(network).__name__}, got {recipe.drop_path!r}.",
            *("recipe", "drop_path"),
        )
