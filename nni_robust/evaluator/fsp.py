"""FSP distance of a network's cells, as a function, an evaluator and a filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import nni
import torch
from nni.nas.evaluator import Evaluator
from nni.nas.space import ExecutableModelSpace
from torch import Tensor, nn
from torch.nn import functional

from nni_robust.attack import PGD, Attack
from nni_robust.check import SettingError, check_choice, check_count
from nni_robust.evaluator.report_to_nni import report_final
from nni_robust.functional.fsp import Normalize, Pool, Reduction, fsp_distance
from nni_robust.network_state import evaluation_mode

CellInput = Literal["prev", "prev_prev", "concat"]


def cell_fsp_distances(
    network: nn.Module,
    x: Tensor,
    x_adv: Tensor,
    *,
    normalize: Normalize = "unit",
    pool: Pool = "max",
    reduction: Reduction = "sum",
    cell_input: CellInput = "prev",
    batch_size: int = 64,
) -> list[float]:
    """Return how far an attack moves the FSP matrix of every cell, averaged over the images.

    Parameters
    ----------
    network
        A network with a list of ``cells``, each called with the outputs of the two cells before
        it. It runs in evaluation mode, and every module is left in its own mode.
    x, x_adv
        Clean and attacked images, shape (N, C, H, W).
    normalize, pool, reduction
        See :func:`nni_robust.functional.fsp.fsp_distance`.
    cell_input
        Which input of the cell the matrix correlates with its output: that from the previous cell,
        that from the cell before it, or both concatenated.
    batch_size
        Number of images run at once.

    Returns
    -------
    list of float
        One distance per cell.

    Notes
    -----
    [RobNets] Eq. 4. The paper does not say which input it means; ``prev`` is the default.
    """
    total = torch.zeros(len(_cells(network)), dtype=torch.float64)
    device = next(network.parameters()).device
    with evaluation_mode(network), torch.no_grad(), _features(network, cell_input) as features:
        for clean, attacked in zip(
            torch.split(x, batch_size), torch.split(x_adv, batch_size), strict=True
        ):
            network(clean.to(device))
            before = list(features)
            features.clear()
            network(attacked.to(device))
            for index, (a, b) in enumerate(zip(before, features, strict=True)):
                total[index] += _sum(a, b, normalize, pool, reduction)
            features.clear()
    return (total / len(x)).tolist()


@nni.trace
class FSPDistance(Evaluator):  # type: ignore[misc]  # NNI is untyped
    """Evaluator that measures the mean FSP distance of a network's last cells.

    Reports a dict with ``fsp``, the distance, and ``default``, the negative distance, because NNI
    maximises.

    Parameters
    ----------
    data
        Data module, whose validation images are used.
    attack
        Attack of the images.
    num_examples
        Number of images; None for all. About 512 give a stable estimate.
    last_cells
        Number of last cells in the mean.
    normalize, pool, reduction, cell_input
        See :func:`cell_fsp_distances`.
    batch_size
        Number of images run at once.
    seed
        Seed of the attack's random starts.
    """

    def __init__(
        self,
        *,
        data: Any,
        attack: Attack = PGD(steps=7),  # noqa: B008  # an immutable value
        num_examples: int | None = 512,
        last_cells: int = 10,
        normalize: Normalize = "unit",
        pool: Pool = "max",
        reduction: Reduction = "sum",
        cell_input: CellInput = "prev",
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        check_count("last_cells", last_cells)
        self.data = data
        self.attack = attack
        self.num_examples = num_examples
        self.last_cells = last_cells
        self.options: dict[str, Any] = {
            "normalize": normalize,
            "pool": pool,
            "reduction": reduction,
            "cell_input": cell_input,
            "batch_size": batch_size,
        }
        self.seed = seed

    def examples(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the validation images, clean and attacked."""
        x, y = self.data.examples("validation", self.num_examples)
        device = next(network.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        size = self.options["batch_size"]
        with evaluation_mode(network):
            x_adv = [
                self.attack(network, a.to(device), b.to(device), generator=generator).cpu()
                for a, b in zip(torch.split(x, size), torch.split(y, size), strict=True)
            ]
        return x, torch.cat(x_adv)

    def distances(self, network: nn.Module) -> list[float]:
        """Return the distance of every cell."""
        return cell_fsp_distances(network, *self.examples(network), **self.options)

    def score(self, network: nn.Module) -> float:
        """Return the mean distance of the last cells."""
        return deep_cell_mean(self.distances(network), self.last_cells)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the metrics of a network, and report them to NNI in a trial."""
        distance = self.score(model)
        metrics = {"default": -distance, "fsp": distance}
        report_final(metrics)
        return metrics


class FSPFilter:
    """Predicate for NNI's ``Filter``: accept networks whose last cells an attack moves little.

    ``Chain(RegularizedEvolution(), Filter(FSPFilter(FSPDistance(data=data), maximum=0.006)))``

    Parameters
    ----------
    distance
        Measures the distance.
    maximum
        Largest distance that is accepted; 0.006 in the paper.
    network
        Returns the network of an executable model, with its weights. By default it is the model's
        own network, with trained weights if the space is a trained supernet in NNI's ``raw``
        format.
    """

    def __init__(
        self,
        distance: FSPDistance,
        *,
        maximum: float,
        network: Callable[[ExecutableModelSpace], nn.Module] | None = None,
    ) -> None:
        if not maximum > 0:
            raise SettingError(f"must be positive, got {maximum!r}.", "maximum")
        self.distance = distance
        self.maximum = maximum
        self.network = network or (lambda model: model.executable_model())

    def __call__(self, model: ExecutableModelSpace) -> bool:
        """Return whether the model's distance is at most the maximum."""
        return self.distance.score(self.network(model)) <= self.maximum


def deep_cell_mean(distances: list[float], last_cells: int) -> float:
    """Return the mean distance of the last cells, or of all if there are fewer."""
    deep = distances[-last_cells:]
    return sum(deep) / len(deep)


def _cells(network: nn.Module) -> nn.ModuleList:
    cells = getattr(network, "cells", None)
    if not isinstance(cells, nn.ModuleList):
        raise SettingError(
            "must have a list of its cells as `cells`, each called with the outputs of the two "
            f"cells before it, got {type(network).__name__}.",
            "network",
        )
    return cells


@contextmanager
def _features(network: nn.Module, cell_input: CellInput) -> Iterator[list[tuple[Tensor, Tensor]]]:
    check_choice("cell_input", cell_input, get_args(CellInput))
    features: list[tuple[Tensor, Tensor]] = []

    def keep(cell: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        features.append((_chosen_input(inputs, cell_input), output))

    handles = [cell.register_forward_hook(keep) for cell in _cells(network)]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()


def _chosen_input(inputs: tuple[Tensor, Tensor], cell_input: CellInput) -> Tensor:
    older, newer = inputs
    if cell_input == "prev":
        return newer
    if cell_input == "prev_prev":
        return older
    older = functional.adaptive_max_pool2d(older, newer.shape[2:])
    return torch.cat([older, newer], 1)


def _sum(
    clean: tuple[Tensor, Tensor],
    attacked: tuple[Tensor, Tensor],
    normalize: Normalize,
    pool: Pool,
    reduction: Reduction,
) -> float:
    distances = fsp_distance(clean, attacked, normalize=normalize, pool=pool, reduction=reduction)
    return float(distances.double().sum())
