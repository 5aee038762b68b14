"""The stages of a RobNet search, each done by one trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import nni
import torch
from nni.mutable import LabeledMutable, Mutable
from nni.mutable.exception import SampleValidationError
from nni.nas.evaluator import MutableEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack
from nni_robust.data import RobustDataModule
from nni_robust.evaluator.fsp import CellInput
from nni_robust.evaluator.robustness import check_suite
from nni_robust.functional.fsp import Normalize
from nni_robust.job.callbacks import (
    RobustnessPerEpoch,
    SubnetworkProbe,
    mean_metrics,
    report_intermediate,
)
from nni_robust.job.journal import Journal
from nni_robust.job.measure import Measure, Metrics
from nni_robust.job.resume import EpochCheckpoint, resume_arguments
from nni_robust.job.training import Training, choose_device
from nni_robust.oneshot import PathSamplingOneShot, as_supernet
from nni_robust.results.drawing import save_drawing
from nni_robust.results.files import (
    SearchFiles,
    export_onnx,
    network_sample,
    write_chosen,
)
from nni_robust.results.weights import load_weights, save_weights
from nni_robust.space import NETWORKS, STAGE, Stage
from nni_robust.training import Recipe


@nni.trace
class StagedEvaluator(MutableEvaluator):  # type: ignore[misc]  # NNI is untyped
    """Do what the stage of a sample asks for: train a supernet, screen, fine-tune, or test.

    Made for :class:`nni_robust.strategy.RobNet`. Every other strategy, NNI's own included, gets
    the stage ``candidate``: its networks inherit from ``supernet``, are fine-tuned and attacked;
    without a supernet they are trained from scratch, with the recipe as it is.
    Works with any model space of :class:`MultiOpEdge` and NNI's LayerChoice, InputChoice, Cell
    and Repeat.

    Parameters
    ----------
    data
        Images; chosen is what resists on the validation images, the test images are seen by the
        final stage alone.
    directory
        Folder of the results; see :class:`nni_robust.results.files.SearchFiles`.
    supernet
        Weights to inherit, or None for ``supernet.pt`` in the folder, if it is there.
    supernet_epochs, finetune_epochs
        Length of the two trainings; 0 epochs of fine-tuning attack the network as inherited.
    recipe
        Optimiser of the supernet; fine-tuning takes a tenth of its learning rate.
    train_attack
        Attack of both trainings, and of the screening.
    test_attacks
        Suite of candidates and of the final test; accuracy is that under the worst for each
        image.
    attack_mode
        Mode of batch norm under attack in training; see :class:`AdversarialClassification`.
    batch_norm_batches
        Attacked training batches of which an inherited network's statistics are taken.
    screen_examples
        Validation images that the screening attacks, or None for all.
    probe_networks
        Random subnetworks that are measured after every epoch of the supernet.
    last_cells, fsp_normalize, fsp_input
        FSP distance; see :class:`nni_robust.evaluator.FSPDistance`.
    batch_size
        Images attacked at once, outside training.
    seed
        Of weights, draws and attacks.
    device
        ``auto`` takes the accelerator, if there is one.
    """

    def __init__(
        self,
        *,
        data: RobustDataModule,
        directory: str,
        supernet: str | None = None,
        supernet_epochs: int = 200,
        finetune_epochs: int = 3,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        train_attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
        test_attacks: Sequence[Attack] = (FGSM(), PGD(steps=20)),
        attack_mode: Literal["train", "eval"] = "train",
        batch_norm_batches: int = 50,
        screen_examples: int | None = None,
        probe_networks: int = 4,
        last_cells: int = 10,
        fsp_normalize: Normalize = "unit",
        fsp_input: CellInput = "prev",
        batch_size: int = 256,
        seed: int = 0,
        device: Literal["auto", "cpu"] = "auto",
    ) -> None:
        _check_counts(
            supernet_epochs=supernet_epochs,
            finetune_epochs=finetune_epochs,
            batch_norm_batches=batch_norm_batches,
            probe_networks=probe_networks,
            screen_examples=screen_examples,
            last_cells=last_cells,
            batch_size=batch_size,
            seed=seed,
        )
        check_suite("test_attacks", test_attacks)
        self.data = data
        self.files = SearchFiles(directory)
        if supernet is not None and not Path(supernet).is_file():
            raise ValueError(f"supernet must be a file of weights, got {supernet!r}: no such file.")
        self.supernet = self.files.supernet if supernet is None else Path(supernet)
        self.supernet_epochs = supernet_epochs
        self.finetune_epochs = finetune_epochs
        self.recipe = recipe
        self.probe_networks = probe_networks
        self.seed = seed
        chosen = choose_device(device)
        self.training = Training(
            directory=self.files.directory, attack_mode=attack_mode, seed=seed, device=chosen
        )
        self.measure = Measure(
            data=data,
            train_attack=train_attack,
            test_attacks=list(test_attacks),
            batch_norm_batches=batch_norm_batches,
            screen_examples=screen_examples,
            last_cells=last_cells,
            fsp_normalize=fsp_normalize,
            fsp_input=fsp_input,
            batch_size=batch_size,
            seed=seed,
            device=chosen,
        )
        self._stage = Stage()

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the stage, the one thing here that a strategy chooses."""
        yield from self._stage.leaf_mutables(is_leaf)

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Give what is wrong with the stage of a sample, or None."""
        return self._stage.check_contains(sample)

    def freeze(self, sample: dict[str, Any]) -> StagedEvaluator:
        """Return the evaluator itself: the stage stays in the sample of the frozen model."""
        return self

    def evaluate(self, model: nn.Module) -> Metrics:
        """Attack a network as it is, on validation images; for use outside a search."""
        return self.measure.full(model, "validation")

    def _execute(self, model: ExecutableModelSpace) -> Metrics:
        # NNI calls this rather than `evaluate`, which would get one network only.
        sample: dict[str, Any] = model.sample
        stage = {
            "supernet": self._train_supernet,
            "screen": self._screen,
            "candidate": self._fine_tune,
            "final": self._test,
        }[sample[STAGE]]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            space = _fresh_space(model)  # with the weights of the seed
            journal = Journal(self.files, space, self, self.seed, kind="staged")
            try:
                # What an interrupted trial had done when it was to report is not done again.
                metrics = journal.known(sample[STAGE], sample) or stage(space, sample, journal)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                journal.note(sample[STAGE], sample, {}, error=reason)
                raise
        if nni.get_current_parameter() is not None:
            nni.report_final_result(metrics)
        return metrics

    def _train_supernet(
        self, space: ModelSpace, sample: dict[str, Any], journal: Journal
    ) -> Metrics:
        probe = SubnetworkProbe(self.measure, self.probe_networks)
        strategy = PathSamplingOneShot(seed=self.seed)
        # The engine is only named: running it would take the trial's channel to NNI away.
        mutated = strategy.initialize(
            RawFormatModelSpace(
                space,
                self.training.evaluator(
                    self.recipe,
                    self.supernet_epochs,
                    self.measure.train_attack,
                    [probe, EpochCheckpoint(self.files.training)],
                    data=self.data,
                ),
            ),
            SequentialExecutionEngine(),
        )
        mutated.evaluator.fit_kwargs.update(resume_arguments(self.files.training))
        mutated.execute()
        save_weights(self.files.supernet, strategy.supernet)
        # Without an epoch to train, as when the training was interrupted at its end, the probe
        # has not looked yet.
        return probe.last or probe.look(strategy.supernet)

    def _screen(self, space: ModelSpace, sample: dict[str, Any], journal: Journal) -> Metrics:
        supernet = self._load_supernet(space)
        measured = []
        for index, subnetwork in enumerate(sample[NETWORKS]):
            journal.start()
            metrics = journal.known("screen", subnetwork)
            if metrics is None:
                network = self.measure.inherit(supernet, subnetwork)
                fsp, cells = self.measure.fsp(network)
                size = journal.size(subnetwork, network)
                metrics = {**self.measure.quick(network), **fsp, **size}
                journal.note("screen", subnetwork, metrics, details=cells)
            report_intermediate({**metrics, "index": index})
            measured.append(metrics)
        return mean_metrics(measured)

    def _fine_tune(self, space: ModelSpace, sample: dict[str, Any], journal: Journal) -> Metrics:
        network, recipe, before = space.freeze(network_sample(sample)), self.recipe, {}
        if self.supernet.is_file():
            network = self.measure.inherit(self._load_supernet(space), sample)
            recipe = recipe.for_finetuning()
            before = {"inherited": self.measure.full(network, "validation")["default"]}
        if self.finetune_epochs:
            callbacks = [RobustnessPerEpoch(self.measure)]
            attack = self.measure.train_attack
            training = self.training.evaluator(
                recipe, self.finetune_epochs, attack, callbacks, data=self.data
            )
            training.evaluate(network)
        fsp, cells = self.measure.fsp(network.to(self.measure.device))
        metrics = {
            **self.measure.full(network, "validation"),
            **before,
            **fsp,
            **journal.size(sample, network),
        }
        save_weights(self.files.candidate(sample), network)
        journal.note("candidate", sample, metrics, details=cells)
        return metrics

    def _test(self, space: ModelSpace, sample: dict[str, Any], journal: Journal) -> Metrics:
        network = space.freeze(network_sample(sample))
        network.load_state_dict(load_weights(self.files.candidate(sample)))
        metrics = {**self.measure.full(network, "test"), **journal.size(sample, network)}
        folder = self.files.final(sample)
        save_weights(folder / "weights.pt", network)
        save_drawing(folder, space, sample)
        export_onnx(folder / "network.onnx", network, self.data.image_shape)
        details = {"num_images": self.measure.num_images("test")}
        record = journal.note("final", sample, metrics, details=details)
        write_chosen(folder, record)  # last: with it the folder is complete
        return metrics

    def _load_supernet(self, space: ModelSpace) -> ModelSpace:
        supernet = as_supernet(space)
        supernet.load_state_dict(load_weights(self.supernet))
        return supernet


def _fresh_space(model: ExecutableModelSpace) -> ModelSpace:
    """Build the space anew: a supernet changes its space in place, so each trial has its own."""
    origin = model.model_space if isinstance(model, RawFormatModelSpace) else model.model
    return origin.trace_copy().get(traceable=False)


def _check_counts(
    *,
    supernet_epochs: int,
    finetune_epochs: int,
    batch_norm_batches: int,
    probe_networks: int,
    screen_examples: int | None,
    last_cells: int,
    batch_size: int,
    seed: int,
) -> None:
    zero = {"supernet_epochs": supernet_epochs, "finetune_epochs": finetune_epochs, "seed": seed}
    one = {
        "batch_norm_batches": batch_norm_batches,
        "probe_networks": probe_networks,
        "screen_examples": 1 if screen_examples is None else screen_examples,
        "last_cells": last_cells,
        "batch_size": batch_size,
    }
    for least, counts in enumerate((zero, one)):
        for name, count in counts.items():
            if count < least:
                raise ValueError(f"{name} must be at least {least}, got {count!r}.")
