"""Projections onto balls, random points in them, and ascent directions, in l_inf and l_2."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from nni_robust.check import check_choice

Norm = Literal["linf", "l2"]

_EACH_IMAGE = (1, 2, 3)  # the dimensions of one image


def check_norm(norm: str) -> None:
    """Raise a SettingError unless ``norm`` is one of :data:`Norm`."""
    check_choice("norm", norm, get_args(Norm))


def project_ball(x_adv: Tensor, x: Tensor, *, norm: Norm, epsilon: float) -> Tensor:
    """Return every image projected onto the ball around its original.

    Parameters
    ----------
    x_adv
        Images to project, shape ``(N, C, H, W)``.
    x
        Centres of the balls, same shape.
    norm
        ``"linf"`` for a cube, ``"l2"`` for a Euclidean ball.
    epsilon
        Radius of the balls, at least 0.

    Returns
    -------
    x_adv
        The nearest points in the balls, same shape.

    Examples
    --------
    >>> x = torch.zeros(1, 1, 1, 2)
    >>> project_ball(torch.tensor([[[[3.0, 4.0]]]]), x, norm="linf", epsilon=0.5)
    tensor([[[[0.5000, 0.5000]]]])
    >>> project_ball(torch.tensor([[[[3.0, 4.0]]]]), x, norm="l2", epsilon=0.5)
    tensor([[[[0.3000, 0.4000]]]])
    """
    check_norm(norm)
    delta = x_adv - x
    if norm == "linf":
        delta = delta.clamp_(-epsilon, epsilon)
    else:
        length = torch.linalg.vector_norm(delta, dim=_EACH_IMAGE, keepdim=True)  # (N, 1, 1, 1)
        # Inside the ball the length stays; the least positive number covers a ball of radius 0.
        delta = delta * (epsilon / length.clamp_min(max(epsilon, torch.finfo(x.dtype).tiny)))
    return delta.add_(x)


def project_image_range(x_adv: Tensor) -> Tensor:
    """Return the images with every pixel clipped to [0, 1]."""
    return x_adv.clamp(0, 1)


def uniform_in_ball(x: Tensor, *, norm: Norm, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return one random point of the ball around every image, uniform by volume.

    Parameters
    ----------
    x
        Centres of the balls, shape ``(N, C, H, W)``.
    norm
        ``"linf"`` for a cube, ``"l2"`` for a Euclidean ball.
    epsilon
        Radius of the balls, at least 0.
    generator
        Source of the draw, which is made on its device and moved to the device of ``x``.

    Returns
    -------
    x_adv
        The points, same shape; pixels may be outside [0, 1].

    Notes
    -----
    In l_2, a Gaussian direction is scaled by the D-th root of a uniform number, where D is the
    number of entries of an image: a ball of relative radius r holds the share r^D of the volume.
    """
    check_norm(norm)
    device, dtype = generator.device, x.dtype
    if norm == "linf":
        delta = torch.rand(x.shape, generator=generator, device=device, dtype=dtype)
        delta = delta.mul_(2 * epsilon).sub_(epsilon)
    else:
        delta = torch.randn(x.shape, generator=generator, device=device, dtype=dtype)
        share = torch.rand((len(x), 1, 1, 1), generator=generator, device=device, dtype=dtype)
        radius = epsilon * share ** (1 / x[0].numel())  # (N, 1, 1, 1)
        delta = steepest_ascent(delta, norm="l2") * radius
    return x + delta.to(x.device)


def steepest_ascent(gradient: Tensor, *, norm: Norm) -> Tensor:
    r"""Return the unit step along which a linear function grows most, for every image.

    .. math::

        \operatorname*{arg\,max}_{\|d\|_p \le 1} \langle g, d \rangle =
        \operatorname{sign}(g) \quad (p = \infty), \qquad g / \|g\|_2 \quad (p = 2).

    Parameters
    ----------
    gradient
        Gradients, shape ``(N, C, H, W)``, of any finite magnitude.
    norm
        The norm in which the step has length 1.

    Returns
    -------
    direction
        The steps, same shape; 0 where the gradient of the whole image is 0.

    Examples
    --------
    >>> gradient = torch.tensor([[[[3.0, -4.0]]]])
    >>> steepest_ascent(gradient, norm="linf"), steepest_ascent(gradient, norm="l2")
    (tensor([[[[ 1., -1.]]]]), tensor([[[[ 0.6000, -0.8000]]]]))
    """
    check_norm(norm)
    if norm == "linf":
        return gradient.sign()
    # Divide by the largest entry first: the squares of a saturated network's gradient vanish in
    # float32. The least positive number replaces the norm of an image without gradient.
    tiny = torch.finfo(gradient.dtype).tiny
    gradient = gradient / gradient.abs().amax(_EACH_IMAGE, keepdim=True).clamp_min(tiny)
    length = torch.linalg.vector_norm(gradient, dim=_EACH_IMAGE, keepdim=True)  # (N, 1, 1, 1)
    direction: Tensor = gradient / length.clamp_min(tiny)
    return direction
