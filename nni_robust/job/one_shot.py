"""A whole one-shot search: supernet, derived network, its training and its test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import nni
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.space import RawFormatModelSpace, model_context
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack
from nni_robust.attack.base import check_count
from nni_robust.data import RobustDataModule
from nni_robust.evaluator.robustness import check_suite
from nni_robust.job.callbacks import SHORT_NAMES, SupernetPerEpoch
from nni_robust.job.journal import Journal
from nni_robust.job.measure import Measure, Metrics
from nni_robust.job.network_training import train_network
from nni_robust.job.resume import EpochCheckpoint, resume_arguments
from nni_robust.job.training import Training, choose_device
from nni_robust.oneshot.lipschitz_bound import BoundOptions, log_bound
from nni_robust.record import Record
from nni_robust.results.drawing import save_drawing
from nni_robust.results.files import (
    SearchFiles,
    export_onnx,
    write_chosen,
    write_text,
)
from nni_robust.results.weights import save_weights
from nni_robust.settings.grammar import build
from nni_robust.space import RACLSpace
from nni_robust.training import Recipe
from nni_robust.training.objective import Free


@nni.trace
class OneShotSearch:
    """Train a supernet, derive its best network, train that by itself, and attack it.

    The derived network has the weights of the epoch that was most robust on validation images. The
    whole search is one call of :meth:`run`, and one trial of an NNI experiment. An interrupted
    one goes on from its last epoch. Works with every one-shot strategy, ours and NNI's.

    Parameters
    ----------
    data
        Images. In the search, its training images train the supernet's weights and its validation
        images the architecture.
    directory
        Folder of the results.
    search_epochs, search_recipe
        Length and optimiser of the supernet's training.
    search_attack
        Attack of the supernet's training images, or None for a clean search.
    derived
        Arguments of the space that differ in the network that is trained by itself, such as
        ``num_cells`` and ``width``.
    retrain_epochs, retrain_recipe, train_attack
        Length, optimiser and attack of its training; None trains on clean images.
    retrain_validation_split
        Share of the training images that is held out from it.
    test_attacks
        Suite of its tests; accuracy is that under the worst for each image.
    attack_mode
        Mode of batch norm under attack in training; see :class:`AdversarialClassification`.
    probe_attack
        Attack under which supernet and network are measured after every epoch.
    probe_examples
        Validation images for that, or None for all.
    batch_size
        Images attacked at once, outside training.
    seed
        Of weights and attacks.
    device
        ``auto`` takes the accelerator if there is one.

    Notes
    -----
    [RACL] Sec. 3.1 searches on clean images, and trains the derived network against PGD-7.
    """

    def __init__(
        self,
        *,
        data: RobustDataModule,
        directory: str,
        search_epochs: int = 50,
        search_recipe: Recipe = Recipe(weight_decay=3e-4, schedule="cosine"),  # noqa: B008
        search_attack: Attack | None = None,
        derived: Mapping[str, Any] | None = None,
        retrain_epochs: int = 200,
        retrain_recipe: Recipe = Recipe(max_norm=5.0),  # noqa: B008  # an immutable value
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        retrain_validation_split: float = 0.1,
        test_attacks: Sequence[Attack] = (FGSM(), PGD()),  # immutable values
        attack_mode: Literal["train", "eval"] = "train",
        probe_attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
        probe_examples: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
        device: Literal["auto", "cpu"] = "auto",
    ) -> None:
        check_count("search_epochs", search_epochs)
        check_count("retrain_epochs", retrain_epochs)
        check_count("batch_size", batch_size)
        if probe_examples is not None:
            check_count("probe_examples", probe_examples)
        if not 0 < retrain_validation_split < 1:
            raise ValueError(
                f"retrain_validation_split must lie between 0 and 1, "
                f"got {retrain_validation_split!r}."
            )
        if isinstance(search_recipe.objective, Free):
            raise ValueError(
                "search_recipe.objective must not be 'free', whose perturbation belongs to one "
                "stream of images, and a search has two. Take 'fast'."
            )
        search_recipe.objective.attack(search_attack)  # refuses one that it cannot use
        retrain_recipe.objective.attack(train_attack)
        if search_recipe.max_norm is not None:
            raise ValueError(
                "search_recipe.max_norm must be left out: in the search the strategy clips, "
                "strategy.max_norm."
            )
        check_suite("test_attacks", test_attacks)
        self.data = data
        self.files = SearchFiles(directory)
        self.search_epochs = search_epochs
        self.search_recipe = search_recipe
        self.search_attack = search_attack
        self.derived = dict(derived or {})
        self.retrain_epochs = retrain_epochs
        self.retrain_recipe = retrain_recipe
        self.train_attack = train_attack
        self.retrain_data = data.with_validation_split(retrain_validation_split)
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

    def run(
        self, space: ModelSpace, strategy: OneShotStrategy, settings: Mapping[str, Any]
    ) -> Metrics:
        """Do the whole search, or what is left of it.

        Parameters
        ----------
        space
            Is left as it is: the search takes a copy.
        strategy
            A one-shot strategy, not used before.
        settings
            The strategy's settings as plain values, for the records.

        Returns
        -------
        dict
            ``default`` and the other accuracies on validation images that the derived network was
            not trained on; ``test`` and ``test_clean`` on test images; ``bound`` and ``bound_bn``,
            the logarithm of its bound without and with the scales of batch norms; what the strategy
            logged last.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            fresh = space.trace_copy().get(traceable=False)  # with the weights of the seed
            journal = Journal(
                self.files, fresh, self, self.seed, kind="one_shot_search", strategy=settings
            )
            try:
                sample = self._search(fresh, strategy, journal)
                metrics = self._retrain(space, sample, journal)
            except Exception as error:
                journal.note("search", {}, {}, error=f"{type(error).__name__}: {error}")
                raise
        if nni.get_current_parameter() is not None:
            nni.report_final_result(metrics)
        return metrics

    def _search(
        self, space: ModelSpace, strategy: OneShotStrategy, journal: Journal
    ) -> dict[str, Any]:
        if self.files.derived.is_file():
            done: dict[str, Any] = json.loads(self.files.derived.read_text())
            return done
        probe = SupernetPerEpoch(self.measure)
        callbacks = [probe, EpochCheckpoint(self.files.training)]
        training = self.training.evaluator(
            self.search_recipe,
            self.search_epochs,
            self.search_attack,
            callbacks,
            train_dataloaders=self.data.train_dataloader(),
            val_dataloaders=self.data.architecture_dataloader(),
        )
        # The engine is only named: running it would take the trial's channel to NNI away.
        engine = SequentialExecutionEngine()
        mutated = strategy.initialize(RawFormatModelSpace(space, training), engine)
        mutated.evaluator.fit_kwargs.update(resume_arguments(self.files.training))
        mutated.execute()
        module = strategy.oneshot_module
        module.set_model(strategy.supernet)
        sample: dict[str, Any] = {str(label): value for label, value in module.export().items()}
        journal.note("search", sample, probe.look(module))
        write_text(self.files.derived, json.dumps(sample, indent=1))
        return sample

    def _retrain(self, space: ModelSpace, sample: dict[str, Any], journal: Journal) -> Metrics:
        validated, tested = (journal.known(stage, sample) for stage in ("candidate", "final"))
        if validated is None or tested is None:
            journal.start()
            network = derive(space, sample, self.derived)
            measure = replace(self.measure, data=self.retrain_data)
            found = train_network(
                network,
                training=self.training,
                recipe=self.retrain_recipe,
                epochs=self.retrain_epochs,
                attack=self.train_attack,
                measure=measure,
                directory=self.files.directory,
            )
            size = {**found, **journal.size(sample, network), **self._bounds(network)}
            validated = {**measure.full(network, "validation"), **size}
            save_weights(self.files.candidate(sample), network)
            journal.note("candidate", sample, validated, space=network)
            tested = {**measure.full(network, "test"), **size}
            details = {"num_images": measure.num_images("test")}
            record = journal.note("final", sample, tested, details=details, space=network)
            self._write(network, sample, record)
        last = journal.known("search", sample) or {}
        return {
            **validated,
            "test": tested["default"],
            "test_clean": tested["clean"],
            **{name: last[name] for name in SHORT_NAMES.values() if name in last},
        }

    def _bounds(self, network: nn.Module) -> Metrics:
        x, _ = self.data.examples("validation", 2)
        bounds = {
            "bound": log_bound(network, x.to(self.measure.device)),
            "bound_bn": log_bound(
                network, x.to(self.measure.device), BoundOptions(fold_batch_norm=True)
            ),
        }
        return {name: value for name, value in bounds.items() if value is not None}

    def _write(self, network: ModelSpace, sample: dict[str, Any], record: Record) -> None:
        folder = self.files.final(sample)
        save_weights(folder / "weights.pt", network)
        save_drawing(folder, network, sample)
        export_onnx(folder / "network.onnx", network, self.data.image_shape)
        write_chosen(folder, record)  # last: with it the folder is complete


def derive(space: ModelSpace, sample: Mapping[str, Any], derived: Mapping[str, Any]) -> ModelSpace:
    """Build a derived network, as it is trained by itself.

    Parameters
    ----------
    space
        That of the search.
    sample
        From label to choice.
    derived
        Arguments of the space that are to differ. A :class:`RACLSpace` takes the form of the
        retraining besides.

    Raises
    ------
    ValueError
        If an argument is not known, or not allowed.
    """
    form = {"partial_channels": 1, "affine": True} if isinstance(space, RACLSpace) else {}
    given = {**space.trace_kwargs, **form}
    rest = {name: value for name, value in given.items() if name not in derived}
    section = {"name": "derived", **derived}
    with model_context(dict(sample)):
        network: ModelSpace = build(section, {"derived": type(space)}, "evaluator.derived", **rest)
    return network
