"""DeepFool: repeated steps across the nearest linearised decision boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.ascent import check_differentiable
from nni_robust.attack.attack import Attack
from nni_robust.attack.loss import check_has_rivals, logits_at
from nni_robust.attack.threat_model import is_non_negative
from nni_robust.check import SettingError, check_count
from nni_robust.functional.projection import Norm, project_image_range, steepest_ascent

# Added to every step, as in the code of the paper: an image on a boundary must still cross it.
_BEYOND = 1e-4
# Number of gradients, each of one class and one image, in a backward pass: limits its memory.
_GRADIENTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    r"""Search for the nearest misclassified image, then project it onto the threat model.

    Every step linearises the network and moves to the nearest boundary between the true class and
    a rival class:

    .. math::

        r_i = \frac{|f_k(x_i)|}{\|\nabla f_k(x_i)\|_q}
        \operatorname*{arg\,max}_{\|d\|_p \le 1} \langle \nabla f_k(x_i), d \rangle, \qquad
        k = \operatorname*{arg\,min}_j \frac{|f_j(x_i)|}{\|\nabla f_j(x_i)\|_q}, \qquad
        x_{i+1} = x + (1 + o) \sum_{l \le i} r_l,

    where :math:`f_j = z_j - z_y` and :math:`1/p + 1/q = 1`. The search ends for an image as soon
    as it is misclassified; an image that is misclassified from the start stays unchanged.

    Parameters
    ----------
    threat_model
        What the adversary may do. Its norm p measures distances; its ball matters only for the
        final projection.
    steps
        Largest number of steps, at least 1.
    overshoot
        How far a step continues beyond a boundary, as a share o of its length; at least 0.
    num_classes
        Number of most likely classes of the clean image whose boundaries are considered, at least
        2. If the network has fewer classes, all are considered.

    Notes
    -----
    Moosavi-Dezfooli, Fawzi and Frossard, *DeepFool: A Simple and Accurate Method to Fool Deep
    Neural Networks*, 2016, Alg. 2 and Eq. 11. The defaults are those of its code. Every step
    clips the pixels to [0, 1]. In training mode, BatchNorm uses the statistics of the images that
    are not yet misclassified.
    """

    steps: int = 50
    overshoot: float = 0.02
    num_classes: int = 10

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("num_classes", self.num_classes, least=2)
        if not is_non_negative(self.overshoot):
            raise SettingError(
                f"must be a number of at least 0, got {self.overshoot!r}.", "overshoot"
            )

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        logits = logits_at(x, network)
        check_has_rivals(logits)
        num_rivals = min(self.num_classes, logits.shape[1]) - 1
        wrong = logits.scatter(1, y.unsqueeze(1), -math.inf)
        rivals = wrong.topk(num_rivals, dim=1).indices  # (N, K)
        left = (logits.argmax(1) == y).nonzero().squeeze(1)  # images not yet misclassified
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
    """Return the shortest steps across a boundary of the linearised network, ``(N, C, H, W)``."""
    x_adv = x_adv.detach().requires_grad_()
    logits = network(x_adv).to(x_adv.dtype)
    leads = logits.gather(1, rivals) - logits.gather(1, y.unsqueeze(1))  # (N, K)
    gradients = _gradients(leads, x_adv)  # (K, N, C, H, W)
    directions = steepest_ascent(gradients.flatten(0, 1), norm=norm).view_as(gradients)
    slopes = (gradients * directions).sum((2, 3, 4))  # (K, N), the dual norms of the gradients
    # A boundary with slope 0 is at the largest finite distance instead of NaN.
    limits = torch.finfo(x_adv.dtype)
    distances = leads.detach().T.abs() / slopes.clamp_min(limits.tiny)
    distance, nearest = distances.clamp_max(limits.max).min(0)  # (N,)
    direction = directions[nearest, torch.arange(len(x_adv), device=x_adv.device)]
    step: Tensor = (distance + _BEYOND).view(-1, 1, 1, 1) * direction
    return step


def _gradients(leads: Tensor, x_adv: Tensor) -> Tensor:
    """Return the gradients of K values per image with respect to the image, ``(K, N, C, H, W)``."""
    num_images, num_values = leads.shape
    one_value = torch.eye(num_values, dtype=leads.dtype, device=leads.device)
    weights = one_value.unsqueeze(1).expand(-1, num_images, -1)  # (K, N, K)
    check_differentiable(leads)
    gradients = []
    for part in torch.split(weights, max(1, _GRADIENTS_AT_ONCE // num_images)):
        (of_images,) = torch.autograd.grad(
            leads, x_adv, part, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        # If the logits do not depend on x, autograd returns a single 0 for all values.
        gradients.append(of_images.nan_to_num().expand(len(part), *x_adv.shape))
    return torch.cat(gradients)
