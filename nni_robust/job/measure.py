"""What a stage measures of a network: one object, so that all stages measure alike."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from nni_robust.attack import Attack
from nni_robust.data import RobustDataModule
from nni_robust.evaluator import FSPDistance, attacked_accuracy, cell_fsp_distances
from nni_robust.evaluator.fsp import CellInput, deep_cell_mean
from nni_robust.functional.fsp import Normalize
from nni_robust.results.files import network_sample
from nni_robust.training import reestimate_batch_norm

Metrics = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Clean accuracy, robust accuracy and FSP distance under one set of conditions.

    Attributes
    ----------
    data
        Images.
    train_attack
        Attack of the screening, of the batch-norm statistics and of the FSP distance.
    test_attacks
        Suite of what is reported.
    batch_norm_batches
        Attacked training batches of which an inherited network's statistics are taken.
    screen_examples
        Validation images of the screening, or None for all.
    last_cells, fsp_normalize, fsp_input
        FSP distance.
    batch_size
        Images attacked at once.
    seed
        Of the attacks.
    device
        Where networks run.
    """

    data: RobustDataModule
    train_attack: Attack
    test_attacks: Sequence[Attack]
    batch_norm_batches: int = 50
    screen_examples: int | None = None
    last_cells: int = 10
    fsp_normalize: Normalize = "unit"
    fsp_input: CellInput = "prev"
    batch_size: int = 256
    seed: int = 0
    device: torch.device

    def inherit(self, supernet: ModelSpace, sample: Mapping[str, Any]) -> nn.Module:
        """Take a subnetwork out of a supernet: a copy of its weights, statistics of its own."""
        # NNI's own choices share their modules with the supernet when they are frozen.
        network: nn.Module = copy.deepcopy(supernet.freeze(network_sample(sample)))
        network.to(self.device)
        loader = self.data.train_dataloader()
        batches = (
            (x.to(self.device), y.to(self.device))
            for _, (x, y) in zip(range(self.batch_norm_batches), loader, strict=False)
        )
        generator = torch.Generator().manual_seed(self.seed)
        reestimate_batch_norm(network, batches, attack=self.train_attack, generator=generator)
        return network

    def quick(self, network: nn.Module) -> Metrics:
        """Clean and robust accuracy (``default``) on the validation images of the screening."""
        attacks = [self.train_attack]
        metrics = self._accuracies(network, "validation", attacks, self.screen_examples)
        return {name: metrics[name] for name in ("default", "clean")}

    def full(self, network: nn.Module, split: Literal["validation", "test"]) -> Metrics:
        """Accuracies under the whole suite, on all images of a split."""
        return self._accuracies(network, split, self.test_attacks, None)

    def num_images(self, split: Literal["validation", "test"]) -> int:
        """Count the images of a split."""
        return len(self.data.stored_examples(split)[1])

    def fsp(self, network: nn.Module) -> tuple[Metrics, dict[str, list[float]]]:
        """FSP distance of the deep cells, and of every cell in both normalisations.

        Both are empty for a network that is no chain of cells.
        """
        if not isinstance(getattr(network, "cells", None), nn.ModuleList):
            return {}, {}
        distance = FSPDistance(
            data=self.data,
            attack=self.train_attack,
            num_examples=self.screen_examples,
            cell_input=self.fsp_input,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        x, x_adv = distance.examples(network)
        cells = {
            name: cell_fsp_distances(network, x, x_adv, **{**distance.options, "normalize": name})
            for name in ("unit", "none")
        }
        chosen = deep_cell_mean(cells[self.fsp_normalize], self.last_cells)
        return {"fsp": chosen}, {f"fsp_{name}": values for name, values in cells.items()}

    def _accuracies(
        self,
        network: nn.Module,
        split: Literal["validation", "test"],
        attacks: Sequence[Attack],
        limit: int | None,
    ) -> Metrics:
        x, y = self.data.stored_examples(split, limit)
        accuracies = attacked_accuracy(
            network.to(self.device),
            x,
            y,
            attacks=attacks,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        return {"default": accuracies.pop("robust"), **accuracies}
