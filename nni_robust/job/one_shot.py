"""A whole one-shot search: supernet, derived network, its training and its test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch.nasnet import NDS
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.space import RawFormatModelSpace, model_context
from torch import nn

from nni_robust.attack import PGD, Attack
from nni_robust.check import SettingError, below, check_count, check_share
from nni_robust.data import RobustDataModule
from nni_robust.job.base import Conditions, Job, Metrics
from nni_robust.job.callbacks import SHORT_NAMES, MeasurePerEpoch, look_at_supernet
from nni_robust.job.journal import Journal, genotypes_of
from nni_robust.job.measure import Probe, network_size
from nni_robust.job.network_training import train_network
from nni_robust.job.trainer import build_trainer
from nni_robust.oneshot import BoundOptions, log_bound
from nni_robust.results.chosen import write_chosen
from nni_robust.results.export import save_network
from nni_robust.results.files import write_text
from nni_robust.results.weights import save_weights
from nni_robust.settings.description import describe, describe_arguments
from nni_robust.settings.grammar import build
from nni_robust.space import RACLSpace
from nni_robust.training import Recipe
from nni_robust.training.objective import Free


class OneShotSearch(Job):
    """Train a supernet, derive its best network, train that from scratch, and attack it.

    The derived network keeps the weights of the epoch that is most robust on validation images.
    The search is one trial of an NNI experiment. If interrupted, it continues from its last epoch.
    Works with every one-shot strategy, ours and NNI's.

    Parameters
    ----------
    space
        Not changed: the search builds its own.
    strategy
        A one-shot strategy, not used before.
    conditions
        Images, folder, attacks, seed and device. In the search, the training images train the
        weights and the validation images train the architecture.
    strategy_settings
        Settings of the strategy as plain values, for the records.
    search_epochs, search_recipe, search_attack
        Length, recipe and attack of the supernet's training; None searches on clean images.
    derived
        Arguments of the space that differ in the derived network, such as ``num_cells`` and
        ``width``.
    retrain_epochs, retrain_recipe, train_attack
        Length, recipe and attack of its training; None trains on clean images.
    retrain_validation_split
        Share of the training images that this training holds out for validation.
    probe_attack, probe_examples
        Attack and number of validation images (None for all) of the measurements after every
        epoch.

    Raises
    ------
    SettingError
        If a value is out of range, the strategy is not one-shot, or the space has no choices.

    Notes
    -----
    [RACL] Sec. 3.1 searches on clean images and trains the derived network with PGD-7.
    """

    def __init__(
        self,
        *,
        space: ModelSpace,
        strategy: OneShotStrategy,
        conditions: Conditions,
        strategy_settings: Mapping[str, Any] | None = None,
        search_epochs: int = 50,
        search_recipe: Recipe = Recipe(weight_decay=3e-4, schedule="cosine"),  # noqa: B008
        search_attack: Attack | None = None,
        derived: Mapping[str, Any] | None = None,
        retrain_epochs: int = 200,
        retrain_recipe: Recipe = Recipe(max_norm=5.0),  # noqa: B008  # an immutable value
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        retrain_validation_split: float = 0.1,
        probe_attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
        probe_examples: int | None = None,
    ) -> None:
        super().__init__(seed=conditions.seed, stage="search")
        check_count("search_epochs", search_epochs)
        check_count("retrain_epochs", retrain_epochs)
        if probe_examples is not None:
            check_count("probe_examples", probe_examples)
        check_share("retrain_validation_split", retrain_validation_split)
        _check_search_recipe(search_recipe)
        for key in ("num_classes", "in_channels"):
            if key in (derived or {}):
                raise SettingError("must be left out: the data determine it.", "derived", key)
        search_recipe.objective.attack(search_attack)  # refuses an attack that it cannot use
        retrain_recipe.objective.attack(train_attack)
        check_one_shot(space, strategy)
        self.space = space
        self.strategy = strategy
        self.strategy_settings = dict(strategy_settings or {})
        self.conditions = conditions
        self.retrain_conditions = replace(
            conditions, data=conditions.data.with_validation_split(retrain_validation_split)
        )
        self.search_epochs = search_epochs
        self.search_recipe = search_recipe
        self.search_attack = search_attack
        self.derived = dict(derived or {})
        self.retrain_epochs = retrain_epochs
        self.retrain_recipe = retrain_recipe
        self.train_attack = train_attack
        self.retrain_validation_split = retrain_validation_split
        self.probe_attack = probe_attack
        self.probe_examples = probe_examples
        self.probe = Probe(conditions=conditions, attack=probe_attack, num_examples=probe_examples)
        self._check_derived()

    @property
    def data(self) -> RobustDataModule:
        """The images."""
        return self.conditions.data

    def journal(self) -> Journal:
        """Claim the folder of the search."""
        evaluator = describe_arguments(self)
        for name in ("space", "strategy", "strategy_settings", "tags"):
            del evaluator[name]
        settings = {
            "space": describe(self.space),
            "evaluator": {"name": "one_shot_search", **evaluator},
            "strategy": self.strategy_settings,
        }
        return Journal(
            self.conditions.files,
            settings,
            seed=self.seed,
            tags=self.conditions.tags,
            genotypes=genotypes_of(self.space),
        )

    def work(self, journal: Journal) -> Metrics:
        """Search, train and test, or do what is left of it.

        Returns
        -------
        dict
            ``default`` and the other accuracies on validation images that the derived network was
            not trained on; ``test`` and ``test_clean`` on test images; ``bound`` and ``bound_bn``,
            the logarithm of its Lipschitz bound without and with the scales of batch norms; what
            the strategy logged last.
        """
        sample = self._search(journal)
        validated, tested = (journal.known(stage, sample) for stage in ("candidate", "final"))
        if validated is None or tested is None:
            with journal.timed():
                validated, tested = self._retrain(sample, journal)
        last = journal.known("search", sample) or {}
        return {
            **validated,
            "test": tested["default"],
            "test_clean": tested["clean"],
            **{name: last[name] for name in SHORT_NAMES.values() if name in last},
        }

    def _search(self, journal: Journal) -> dict[str, Any]:
        """Return the sample of the derived network."""
        space = self.space.trace_copy().get(traceable=False)  # with weights of the seed
        files, data = self.conditions.files, self.conditions.data
        if files.derived.is_file():
            done: dict[str, Any] = json.loads(files.derived.read_text())
            return done
        trainer = build_trainer(
            self.conditions,
            recipe=self.search_recipe,
            epochs=self.search_epochs,
            attack=self.search_attack,
            callbacks=[
                MeasurePerEpoch("supernet", lambda module: look_at_supernet(self.probe, module))
            ],
            checkpoint=files.training,
            train_dataloaders=data.train_dataloader(),
            val_dataloaders=data.architecture_dataloader(),
        )
        # The engine is only named: running it would take the trial's channel to NNI away.
        engine = SequentialExecutionEngine()
        self.strategy.initialize(RawFormatModelSpace(space, trainer), engine).execute()
        module = self.strategy.oneshot_module
        module.set_model(self.strategy.supernet)
        sample: dict[str, Any] = {str(label): value for label, value in module.export().items()}
        journal.note("search", sample, look_at_supernet(self.probe, module))
        write_text(files.derived, json.dumps(sample, indent=1))
        return sample

    def _retrain(self, sample: dict[str, Any], journal: Journal) -> tuple[Metrics, Metrics]:
        """Train the derived network; return its validation and its test metrics."""
        conditions = self.retrain_conditions
        network = derive(self.space, sample, self.derived)
        found = train_network(
            network,
            conditions=conditions,
            probe=replace(self.probe, conditions=conditions),
            recipe=self.retrain_recipe,
            epochs=self.retrain_epochs,
            attack=self.train_attack,
        )
        size = {**found, **network_size(network, self.space, sample), **self._bounds(network)}
        validated = {**conditions.accuracies(network, "validation"), **size}
        save_weights(conditions.files.candidate(sample), network)
        space = describe(network)
        details = {"num_images": conditions.num_images("validation")}
        journal.note("candidate", sample, validated, details=details, space=space)
        tested = {**conditions.accuracies(network, "test"), **size}
        details = {"num_images": conditions.num_images("test")}
        record = journal.note("final", sample, tested, details=details, space=space)
        shape = conditions.data.image_shape
        folder = conditions.files.final(sample)
        save_network(folder, network, network, sample, shape)
        write_chosen(folder, record)  # last: it marks the folder as complete
        return validated, tested

    def _bounds(self, network: nn.Module) -> Metrics:
        x, _ = self.conditions.data.examples("validation", 2)
        x = x.to(self.conditions.torch_device)
        bounds = {
            "bound": log_bound(network, x),
            "bound_bn": log_bound(network, x, BoundOptions(fold_batch_norm=True)),
        }
        return {name: value for name, value in bounds.items() if value is not None}

    def _check_derived(self) -> None:
        """Build the derived network of a default sample, to find wrong arguments early."""
        sample = {label: leaf.default() for label, leaf in self.space.simplify().items()}
        network = derive(self.space, sample, self.derived)
        recipe = self.retrain_recipe
        if (recipe.drop_path or recipe.auxiliary_weight) and not isinstance(network, NDS):
            raise SettingError(
                "drop_path and auxiliary_weight must be 0: a "
                f"{type(network).__name__} cannot drop paths and has no auxiliary head. Train the "
                "derived cell with NNI's hub instead.",
                "retrain_recipe",
            )


def derive(space: ModelSpace, sample: Mapping[str, Any], derived: Mapping[str, Any]) -> ModelSpace:
    """Build a derived network in the form that is trained from scratch.

    Parameters
    ----------
    space
        Space of the search.
    sample
        Maps labels to choices.
    derived
        Arguments of the space that differ. A :class:`~nni_robust.space.RACLSpace` also takes the
        form of the retraining: all channels, batch norms with weights.

    Raises
    ------
    SettingError
        If an argument is unknown or invalid.
    """
    form = {"partial_channels": 1, "affine": True} if isinstance(space, RACLSpace) else {}
    given = {**space.trace_kwargs, **form}
    rest = {name: value for name, value in given.items() if name not in derived}
    section = {"name": "derived", **derived}
    with model_context(dict(sample)):
        network: ModelSpace = build(section, {"derived": type(space)}, "derived", **rest)
    return network


def _check_search_recipe(recipe: Recipe) -> None:
    with below("search_recipe"):
        if isinstance(recipe.objective, Free):
            raise SettingError(
                "must not be 'free': its perturbation belongs to one stream of images, and a "
                "search has two. Use 'fast'.",
                "objective",
            )
        if recipe.max_norm is not None:
            raise SettingError(
                "must be left out: in the search the strategy clips gradients, strategy.max_norm.",
                "max_norm",
            )


def check_one_shot(space: ModelSpace, strategy: Any) -> None:
    """Raise a SettingError unless the strategy is one-shot and the space has choices."""
    if not isinstance(strategy, OneShotStrategy):
        raise SettingError(
            f"must be a one-shot strategy, such as 'racl', got a {type(strategy).__name__}. "
            "Other strategies run under the strategy host.",
            *("strategy", "name"),
        )
    if not space.simplify():
        raise SettingError(
            f"must have choices to search, but {type(space).__name__} has none.", "space"
        )
