"""The stages of a RobNet search; each trial does one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import nni
from nni.mutable import LabeledMutable, Mutable
from nni.mutable.exception import SampleValidationError
from nni.nas.evaluator import MutableEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace
from torch import nn

from nni_robust.attack import PGD, Attack
from nni_robust.check import SettingError, check_count
from nni_robust.evaluator.report_to_nni import report_intermediate
from nni_robust.job.base import Conditions, Job, Metrics
from nni_robust.job.callbacks import MeasurePerEpoch, SubnetworksPerEpoch
from nni_robust.job.journal import Journal, genotypes_of
from nni_robust.job.measure import Screen, Screening, mean_metrics, network_size
from nni_robust.job.trainer import build_trainer
from nni_robust.oneshot import PathSamplingOneShot, as_supernet
from nni_robust.results.chosen import write_chosen
from nni_robust.results.export import save_network
from nni_robust.results.weights import load_weights, save_weights
from nni_robust.settings.description import describe, describe_call
from nni_robust.space import STAGE, SUBNETWORKS, Stage, reported
from nni_robust.training import Recipe


@nni.trace
class StagedSearch(MutableEvaluator):  # type: ignore[misc]  # NNI is untyped
    """Do the stage that a sample asks for: train a supernet, screen, fine-tune, or test.

    Made for :class:`~nni_robust.strategy.RobNet`. Every other strategy, NNI's own included, gets
    the stage ``candidate``: its networks inherit weights from ``supernet``, are fine-tuned and
    attacked. Without a supernet they are trained from scratch with the recipe as it is. Works with
    every model space of :class:`~nni_robust.space.MultiOpEdge` and of NNI's LayerChoice,
    InputChoice, Cell and Repeat.

    Parameters
    ----------
    conditions
        Images, folder, attacks, seed and device. Candidates are ranked on validation images; only
        the final stage uses the test images.
    screening
        How subnetworks are measured.
    supernet
        File of the weights to inherit. None uses ``supernet.pt`` in the folder, if it exists.
    supernet_epochs, finetune_epochs
        Length of the two trainings. With 0 epochs of fine-tuning, networks are attacked as
        inherited.
    recipe
        Recipe of the supernet; fine-tuning uses a tenth of its learning rate.
    train_attack
        Attack of both trainings and of the screening.

    Raises
    ------
    SettingError
        If a value is out of range or the file of weights does not exist.
    """

    def __init__(
        self,
        *,
        conditions: Conditions,
        screening: Screening = Screening(),  # noqa: B008  # an immutable value
        supernet: str | None = None,
        supernet_epochs: int = 200,
        finetune_epochs: int = 3,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        train_attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
    ) -> None:
        check_count("supernet_epochs", supernet_epochs, least=0)
        check_count("finetune_epochs", finetune_epochs, least=0)
        if supernet is not None and not Path(supernet).is_file():
            raise SettingError(
                f"must be a file of weights, got {supernet!r}: no such file.", "supernet"
            )
        self.conditions = conditions
        self.supernet = conditions.files.supernet if supernet is None else Path(supernet)
        self.supernet_epochs = supernet_epochs
        self.finetune_epochs = finetune_epochs
        self.recipe = recipe
        self.screen = Screen(conditions=conditions, attack=train_attack, options=screening)
        self._stage = Stage()

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the stage, the only choice of this evaluator."""
        yield from self._stage.leaf_mutables(is_leaf)

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Return what is wrong with the stage of a sample, or None."""
        return self._stage.check_contains(sample)

    def freeze(self, sample: dict[str, Any]) -> StagedSearch:
        """Return the evaluator itself: the stage stays in the sample of the frozen model."""
        return self

    def evaluate(self, model: nn.Module) -> Metrics:
        """Attack a network as it is, on validation images; for use outside a search."""
        return self.conditions.accuracies(model, "validation")

    def _execute(self, model: ExecutableModelSpace) -> Metrics:
        # NNI calls this rather than `evaluate`, which gets one network only.
        return StageTrial(self, model).run()


class StageTrial(Job):
    """One stage of a search, for one sample.

    Parameters
    ----------
    search
        The search.
    model
        Its space, frozen to a sample with a stage.
    """

    def __init__(self, search: StagedSearch, model: ExecutableModelSpace) -> None:
        asked = dict(model.sample)
        stage, self.networks = asked.pop(STAGE), asked.pop(SUBNETWORKS, [])
        super().__init__(seed=search.conditions.seed, stage=stage, sample=asked)
        self.search = search
        self.screen = search.screen
        self.conditions = search.conditions
        self._origin = model.model_space if isinstance(model, RawFormatModelSpace) else model.model

    @cached_property
    def space(self) -> ModelSpace:
        """The space, built when the run starts, with weights of the seed.

        A supernet changes its space in place, so each trial builds its own.
        """
        return self._origin.trace_copy().get(traceable=False)

    def journal(self) -> Journal:
        """Claim the folder of the search."""
        evaluator = describe_call(self.search)
        del evaluator["tags"]
        return Journal(
            self.conditions.files,
            {"space": describe(self.space), "evaluator": {"name": "staged", **evaluator}},
            seed=self.seed,
            tags=self.conditions.tags,
            genotypes=genotypes_of(self.space),
        )

    def work(self, journal: Journal) -> Metrics:
        """Do the stage, unless an interrupted trial had finished it."""
        stage = {
            "supernet": self._train_supernet,
            "screen": self._screen_networks,
            "candidate": self._fine_tune,
            "final": self._test,
        }[self.stage]
        return journal.known(self.stage, self.sample) or stage(self.space, journal)

    def _train_supernet(self, space: ModelSpace, journal: Journal) -> Metrics:
        search, files = self.search, self.conditions.files
        probe = SubnetworksPerEpoch(self.screen)
        strategy = PathSamplingOneShot(seed=self.seed)
        trainer = build_trainer(
            self.conditions,
            recipe=search.recipe,
            epochs=search.supernet_epochs,
            attack=self.screen.attack,
            callbacks=[probe],
            checkpoint=files.training,
            data=self.conditions.data,
        )
        # The engine is only named: running it would take the trial's channel to NNI away.
        engine = SequentialExecutionEngine()
        strategy.initialize(RawFormatModelSpace(space, trainer), engine).execute()
        save_weights(files.supernet, strategy.supernet)
        # If no epoch was left to train, the probe has not measured yet.
        return probe.last or probe.look(strategy.supernet)

    def _screen_networks(self, space: ModelSpace, journal: Journal) -> Metrics:
        supernet = self._load_supernet(space)
        measured = []
        for index, sample in enumerate(self.networks):
            metrics = journal.known("screen", sample)
            if metrics is None:
                with journal.timed():
                    network = self.screen.inherit(supernet, sample)
                    fsp, cells = self.screen.fsp(network)
                    size = network_size(network, space, sample)
                    metrics = {**self.screen.probe.measure(network), **fsp, **size}
                    journal.note("screen", sample, metrics, details=cells)
            report_intermediate(reported("screen", {**metrics, "index": index}))
            measured.append(metrics)
        return mean_metrics(measured)

    def _fine_tune(self, space: ModelSpace, journal: Journal) -> Metrics:
        search, sample = self.search, self.sample
        network, recipe, before = space.freeze(sample), search.recipe, {}
        if search.supernet.is_file():
            network = self.screen.inherit(self._load_supernet(space), sample)
            recipe = recipe.for_finetuning()
            inherited = self.conditions.accuracies(network, "validation")
            before = {"inherited": inherited["default"]}
        if search.finetune_epochs:
            probe = MeasurePerEpoch("validation", lambda m: self.screen.probe.measure(m.model))
            trainer = build_trainer(
                self.conditions,
                recipe=recipe,
                epochs=search.finetune_epochs,
                attack=self.screen.attack,
                callbacks=[probe],
                data=self.conditions.data,
            )
            trainer.evaluate(network)
        fsp, cells = self.screen.fsp(network.to(self.conditions.torch_device))
        accuracies = self.conditions.accuracies(network, "validation")
        metrics = {**accuracies, **before, **fsp, **network_size(network, space, sample)}
        save_weights(self.conditions.files.candidate(sample), network)
        details = {"num_images": self.conditions.num_images("validation"), **cells}
        journal.note("candidate", sample, metrics, details=details)
        return metrics

    def _test(self, space: ModelSpace, journal: Journal) -> Metrics:
        files, sample = self.conditions.files, self.sample
        network = space.freeze(sample)
        network.load_state_dict(load_weights(files.candidate(sample)))
        accuracies = self.conditions.accuracies(network, "test")
        metrics = {**accuracies, **network_size(network, space, sample)}
        details = {"num_images": self.conditions.num_images("test")}
        folder = files.final(sample)
        save_network(folder, network, space, sample, self.conditions.data.image_shape)
        record = journal.note("final", sample, metrics, details=details)
        write_chosen(folder, record)  # last: it marks the folder as complete
        return metrics

    def _load_supernet(self, space: ModelSpace) -> ModelSpace:
        supernet = as_supernet(space)
        supernet.load_state_dict(load_weights(self.search.supernet))
        return supernet
