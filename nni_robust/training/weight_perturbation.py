"""Adversarial weight perturbation: the loss is taken where it is worst near the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def weight_perturbation(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], *, gamma: float
) -> list[Tensor]:
    r"""Scale every gradient to a share of the norm of its weights.

    .. math:: v = \gamma \, \|w\|_2 \, g / \|g\|_2

    Parameters
    ----------
    weights
        Of the layers, of any shapes.
    gradients
        Of the loss at them, same shapes.
    gamma
        The share.

    Notes
    -----
    Wu, Xia and Wang, *Adversarial Weight Perturbation Helps Robust Generalization*, 2020, Eq. 9,
    in one step.

    Examples
    --------
    >>> weight_perturbation([torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 2.0])], gamma=0.1)
    [tensor([0.0000, 0.5000])]
    """
    perturbations = []
    for weight, gradient in zip(weights, gradients, strict=True):
        # The least positive number stands in for the norm of a layer without gradient.
        length = gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)
        perturbations.append(gamma * weight.norm() / length * gradient)
    return perturbations


class WeightPerturbation:
    """Perturb the weights of a network before a loss is taken, and put them back afterwards.

    Weights are perturbed that have a direction: kernels and matrices, neither biases nor the
    scales of batch norms, and none that are not in training.

    Parameters
    ----------
    gamma
        Size of the perturbation as a share of the norm of each layer's weights.

    Notes
    -----
    The weights are put back before the optimiser moves them, bit by bit; the authors' code takes
    the perturbation off after the step, so that there weight decay pulls at the perturbed weights.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self._found: list[tuple[Tensor, Tensor]] = []

    def apply(self, network: nn.Module, loss: Callable[[], Tensor]) -> None:
        """Move the weights of a network to where the loss is larger.

        Parameters
        ----------
        network
            Changed in place until :meth:`restore`. Running statistics stand still.
        loss
            Runs the network, and gives a scalar.
        """
        trained = [p for p in network.parameters() if p.requires_grad and p.dim() > 1]
        if not trained:
            return
        with _statistics_held(network):
            gradients = torch.autograd.grad(loss(), trained, allow_unused=True)
        weights, directions = [], []
        for weight, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:  # an operation that was not drawn has none
                weights.append(weight)
                directions.append(gradient)
        with torch.no_grad():
            for weight, perturbation in zip(
                weights, weight_perturbation(weights, directions, gamma=self.gamma), strict=True
            ):
                self._found.append((weight, weight.clone()))
                weight.add_(perturbation)
        torch.clear_autocast_cache()  # it may hold casts of the weights as they were

    def restore(self) -> None:
        """Put the weights back as they were found."""
        with torch.no_grad():
            for weight, found in self._found:
                weight.copy_(found)
        self._found.clear()
        torch.clear_autocast_cache()


@contextmanager
def _statistics_held(network: nn.Module) -> Iterator[None]:
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
