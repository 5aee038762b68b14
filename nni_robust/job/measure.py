"""What a job measures on validation images while it runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from nni_robust.attack import Attack
from nni_robust.check import Options, check_count
from nni_robust.evaluator import FSPDistance, cell_fsp_distances
from nni_robust.evaluator.fsp import CellInput, deep_cell_mean
from nni_robust.functional.fsp import Normalize
from nni_robust.job.base import Conditions, Metrics
from nni_robust.space import RobNetSpace
from nni_robust.space.robnet_genotype import genotype_metrics
from nni_robust.training import reestimate_batch_norm


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measure clean accuracy and the accuracy under one attack on some validation images.

    Parameters
    ----------
    conditions
        Images, batch size, seed and device.
    attack
        The attack.
    num_examples
        Number of validation images, None for all.
    """

    conditions: Conditions
    attack: Attack
    num_examples: int | None = None

    def __post_init__(self) -> None:
        if self.num_examples is not None:
            check_count("num_examples", self.num_examples)

    def measure(self, network: nn.Module) -> Metrics:
        """Return ``default``, the accuracy under attack, and ``clean``."""
        metrics = self.conditions.accuracies(
            network, "validation", [self.attack], self.num_examples
        )
        return {name: metrics[name] for name in ("default", "clean")}


@dataclass(frozen=True, kw_only=True)
class Screening(Options):
    """How subnetworks of a supernet are measured.

    Parameters
    ----------
    batch_norm_batches
        Number of attacked training batches for the batch-norm statistics of a subnetwork.
    screen_examples
        Number of validation images that the screening attacks, None for all.
    probe_networks
        Number of random subnetworks that are measured after every epoch of the supernet.
    last_cells, fsp_normalize, fsp_input
        FSP distance; see :class:`~nni_robust.evaluator.FSPDistance`.
    """

    batch_norm_batches: int = 50
    screen_examples: int | None = None
    probe_networks: int = 4
    last_cells: int = 10
    fsp_normalize: Normalize = "unit"
    fsp_input: CellInput = "prev"

    def __post_init__(self) -> None:
        for name in ("batch_norm_batches", "probe_networks", "last_cells"):
            check_count(name, getattr(self, name))
        if self.screen_examples is not None:
            check_count("screen_examples", self.screen_examples)


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Take subnetworks from a supernet and measure them.

    Parameters
    ----------
    conditions
        Images, batch size, seed and device.
    attack
        Attack of the accuracies, the batch-norm statistics and the FSP distance.
    options
        The rest.
    """

    conditions: Conditions
    attack: Attack
    options: Screening

    @property
    def probe(self) -> Probe:
        """Accuracies on the validation images of the screening."""
        return Probe(
            conditions=self.conditions,
            attack=self.attack,
            num_examples=self.options.screen_examples,
        )

    def inherit(self, supernet: ModelSpace, sample: Mapping[str, Any]) -> nn.Module:
        """Return a subnetwork with a copy of its weights and batch-norm statistics of its own."""
        device = self.conditions.torch_device
        # NNI's own choices share their modules with the supernet when they are frozen.
        network: nn.Module = copy.deepcopy(supernet.freeze(dict(sample)))
        network.to(device)
        loader = self.conditions.data.train_dataloader()
        batches = (
            (x.to(device), y.to(device))
            for _, (x, y) in zip(range(self.options.batch_norm_batches), loader, strict=False)
        )
        generator = torch.Generator().manual_seed(self.conditions.seed)
        reestimate_batch_norm(network, batches, attack=self.attack, generator=generator)
        return network

    def fsp(self, network: nn.Module) -> tuple[Metrics, dict[str, list[float]]]:
        """Return the FSP distance of the deep cells, and of every cell in both normalisations.

        Both are empty for a network that is not a chain of cells.
        """
        if not isinstance(getattr(network, "cells", None), nn.ModuleList):
            return {}, {}
        distance = FSPDistance(
            data=self.conditions.data,
            attack=self.attack,
            num_examples=self.options.screen_examples,
            cell_input=self.options.fsp_input,
            batch_size=self.conditions.batch_size,
            seed=self.conditions.seed,
        )
        x, x_adv = distance.examples(network)
        cells = {
            name: cell_fsp_distances(network, x, x_adv, **{**distance.options, "normalize": name})
            for name in ("unit", "none")
        }
        chosen = deep_cell_mean(cells[self.options.fsp_normalize], self.options.last_cells)
        return {"fsp": chosen}, {f"fsp_{name}": values for name, values in cells.items()}


def mean_metrics(measured: Sequence[Metrics]) -> Metrics:
    """Return the mean of each metric over several networks."""
    return {name: sum(m[name] for m in measured) / len(measured) for name in measured[0]}


def network_size(
    network: nn.Module, space: ModelSpace | None = None, sample: Mapping[str, Any] | None = None
) -> Metrics:
    """Return the number of parameters and, for a RobNet, its density and the like."""
    size: Metrics = {"num_parameters": sum(p.numel() for p in network.parameters())}
    if sample and isinstance(space, RobNetSpace):
        return {**size, **genotype_metrics(space.genotypes(sample))}
    return size
