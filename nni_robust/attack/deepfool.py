"""DeepFool: step after step across the nearest linearised boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.base import Attack, check_count, check_differentiable
from nni_robust.attack.loss import check_has_rivals, logits_at
from nni_robust.functional.projection import Norm, project_image_range, steepest_ascent

# Added to every step, as in the code of the paper: an image on a boundary has still to cross it.
_BEYOND = 1e-4
_GRADIENTS_AT_ONCE = 256  # of one image and one class each: bounds the memory of a backward pass


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    r"""Search for the nearest misclassified image, and clip what is found to the threat model.

    Every step treats the network as linear. Among the rival classes it finds the nearest boundary
    of the true one, and goes there:

    .. math::

        r_i = \frac{|f_k(x_i)|}{\|\nabla f_k(x_i)\|_q}
        \operatorname*{arg\,max}_{\|d\|_p \le 1} \langle \nabla f_k(x_i), d \rangle, \qquad
        k = \operatorname*{arg\,min}_j \frac{|f_j(x_i)|}{\|\nabla f_j(x_i)\|_q}, \qquad
        x_{i+1} = x + (1 + o) \sum_{l \le i} r_l,

    where :math:`f_j = z_j - z_y` and :math:`1/p + 1/q = 1`. An image that is misclassified stays
    as it is and leaves the batch.

    Parameters
    ----------
    threat_model
        What the adversary may do: gives the norm p of the distance, and the ball onto which the
        result is projected. No step before depends on ``epsilon``.
    steps
        Largest number of steps.
    overshoot
        Share o of the way that is gone beyond a boundary, at least 0.
    num_classes
        Number of classes, the likeliest of the clean image, between which boundaries are looked
        for; at least 2. A network of fewer classes has all of them tried.

    Notes
    -----
    Moosavi-Dezfooli, Fawzi and Frossard, *DeepFool: A Simple and Accurate Method to Fool Deep
    Neural Networks*, 2016, Alg. 2 and Eq. 11. The defaults are those of its code. Pixels are kept
    in [0, 1] at every step. In training mode batch norm sees only the images that are left.
    """

    steps: int = 50
    overshoot: float = 0.02
    num_classes: int = 10

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("num_classes", self.num_classes, least=2)
        if not 0 <= self.overshoot < math.inf:
            raise ValueError(f"overshoot must be at least 0, got {self.overshoot!r}.")

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        logits = logits_at(x, network)
        check_has_rivals(logits)
        num_rivals = min(self.num_classes, logits.shape[1]) - 1
        wrong = logits.scatter(1, y.unsqueeze(1), -math.inf)
        rivals = wrong.topk(num_rivals, dim=1).indices  # (N, K)
        left = (logits.argmax(1) == y).nonzero().squeeze(1)  # places of images not yet fooled
        x_adv, path = x.clone(), torch.zeros_like(x)
        for _ in range(self.steps):
            if len(left) == 0:
                break
            path[left] += _step_to_nearest_boundary(
                network, x_adv[left], y[left], rivals[left], norm=self.threat_model.norm
            )
            x_adv[left] = project_image_range(x[left] + (1 + self.overshoot) * path[left])
            left = left[logits_at(x_adv[left], network).argmax(1) == y[left]]
        return self.threat_model.project(x_adv, x)


def _step_to_nearest_boundary(
    network: nn.Module, x_adv: Tensor, y: Tensor, rivals: Tensor, *, norm: Norm
) -> Tensor:
    """Return the shortest step to where the linearised network gives a rival the lead."""
    x_adv = x_adv.detach().requires_grad_()
    logits = network(x_adv).to(x_adv.dtype)
    leads = logits.gather(1, rivals) - logits.gather(1, y.unsqueeze(1))  # (N, K)
    gradients = _gradients(leads, x_adv)  # (K, N, C, H, W)
    directions = steepest_ascent(gradients.flatten(0, 1), norm=norm).view_as(gradients)
    slopes = (gradients * directions).sum((2, 3, 4))  # (K, N), the dual norms of the gradients
    # A boundary without slope is as far away as a number can be, and no NaN.
    limits = torch.finfo(x_adv.dtype)
    distances = leads.detach().T.abs() / slopes.clamp_min(limits.tiny)
    distance, nearest = distances.clamp_max(limits.max).min(0)  # (N,)
    direction = directions[nearest, torch.arange(len(x_adv), device=x_adv.device)]
    step: Tensor = (distance + _BEYOND).view(-1, 1, 1, 1) * direction
    return step


def _gradients(leads: Tensor, x_adv: Tensor) -> Tensor:
    """Differentiate each of K values of every image by the image, ``(K, N, C, H, W)``."""
    num_images, num_values = leads.shape
    one_value = torch.eye(num_values, dtype=leads.dtype, device=leads.device)
    weights = one_value.unsqueeze(1).expand(-1, num_images, -1)  # (K, N, K)
    check_differentiable(leads)
    gradients = []
    for part in torch.split(weights, max(1, _GRADIENTS_AT_ONCE // num_images)):
        (of_images,) = torch.autograd.grad(
            leads, x_adv, part, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        # Of a network that does not see x, autograd gives one 0 for all the values.
        gradients.append(of_images.nan_to_num().expand(len(part), *x_adv.shape))
    return torch.cat(gradients)
