"""Adversarial weight perturbation: train at weights that were moved to raise the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nni_robust.network_state import held_statistics


def weight_perturbation(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], *, gamma: float
) -> list[Tensor]:
    r"""Scale the gradient of every layer to a fraction of the norm of its weights.

    .. math:: v = \gamma \, \|w\|_2 \, g / \|g\|_2

    Parameters
    ----------
    weights
        One tensor per layer, of any shape.
    gradients
        Gradients of the loss, same shapes.
    gamma
        The fraction.

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
        # A layer without a gradient is divided by the smallest positive number instead of 0.
        length = gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)
        perturbations.append(gamma * weight.norm() / length * gradient)
    return perturbations


class WeightPerturbation:
    """Perturb the weights of a network before a loss is computed, and restore them afterwards.

    Only trained weights with a direction are perturbed: kernels and matrices, but not biases or the
    scales of batch norms.

    Parameters
    ----------
    gamma
        Size of the perturbation, as a fraction of the norm of each layer's weights.

    Notes
    -----
    The exact weights are restored before the optimiser moves them. The authors' code subtracts the
    perturbation after the step, so that its weight decay acts on the perturbed weights.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self._found: list[tuple[Tensor, Tensor]] = []

    def apply(self, network: nn.Module, loss: Callable[[], Tensor]) -> None:
        """Move the weights of a network in the direction that raises the loss.

        Parameters
        ----------
        network
            Changed in place until :meth:`restore`. Its running statistics do not change.
        loss
            Runs the network and returns a scalar.
        """
        trained = [p for p in network.parameters() if p.requires_grad and p.dim() > 1]
        if not trained:
            return
        with held_statistics(network):
            gradients = torch.autograd.grad(loss(), trained, allow_unused=True)
        weights, directions = [], []
        for weight, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:  # the weight of an operation that was not drawn has none
                weights.append(weight)
                directions.append(gradient)
        with torch.no_grad():
            for weight, perturbation in zip(
                weights, weight_perturbation(weights, directions, gamma=self.gamma), strict=True
            ):
                self._found.append((weight, weight.clone()))
                weight.add_(perturbation)
        torch.clear_autocast_cache()  # it may hold casts of the unperturbed weights

    def restore(self) -> None:
        """Restore the weights bit by bit."""
        with torch.no_grad():
            for weight, found in self._found:
                weight.copy_(found)
        self._found.clear()
        torch.clear_autocast_cache()
