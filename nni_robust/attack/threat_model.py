"""Threat models: which images an adversary may show instead of the original one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor

from nni_robust.check import SettingError, check_choice
from nni_robust.functional.projection import (
    Norm,
    project_ball,
    project_image_range,
    uniform_in_ball,
)


def is_non_negative(value: Any) -> bool:
    """Return whether a value is a finite number of at least 0; True and False are not numbers.

    Examples
    --------
    >>> [is_non_negative(value) for value in (0, 0.5, -1, float("inf"), float("nan"), True, "1")]
    [True, True, False, False, False, False, False]
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and 0 <= float(value) < math.inf


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    r"""The images that an adversary may use: those in a ball around the original image.

    .. math:: \{x' \in [0, 1]^{C \times H \times W} : \|x' - x\|_p \le \varepsilon\}

    Parameters
    ----------
    norm
        The norm of the ball, ``"linf"`` or ``"l2"``.
    epsilon
        The radius of the ball, at least 0, on the scale of images in [0, 1]. In l_inf at most 1.

    Raises
    ------
    SettingError
        If the norm is unknown or ``epsilon`` is out of range.

    Examples
    --------
    >>> x, x_adv = torch.tensor([[[[0.9, 0.5]]]]), torch.tensor([[[[1.4, 0.6]]]])
    >>> ThreatModel(epsilon=0.25).project(x_adv, x)
    tensor([[[[1.0000, 0.6000]]]])
    """

    norm: Norm = "linf"
    epsilon: float = 8 / 255

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, get_args(Norm))
        valid = is_non_negative(self.epsilon)
        if self.norm == "linf" and not (valid and self.epsilon <= 1):
            raise SettingError(
                f"must lie in [0, 1], the scale of the images, got {self.epsilon!r}. "
                "For the usual CIFAR-10 budget write 8/255, not 8.",
                "epsilon",
            )
        if not valid:
            raise SettingError(
                f"must be a number of at least 0, got {self.epsilon!r}. "
                "For the usual CIFAR-10 budget in l2 write 0.5 or 128/255.",
                "epsilon",
            )

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Project images onto the ball around ``x``, then onto [0, 1].

        The second step stays in the ball, because it moves no pixel away from that of ``x``. In
        l_2 the result is in the intersection of both sets, but not always its nearest point.

        Parameters
        ----------
        x_adv, x
            Images to project and the original images, both of shape ``(N, C, H, W)``.

        Returns
        -------
        x_adv
            The projected images, same shape.
        """
        return project_image_range(project_ball(x_adv, x, norm=self.norm, epsilon=self.epsilon))

    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one point uniformly from the ball around each image and project it onto [0, 1].

        Parameters
        ----------
        x
            Images in [0, 1], shape ``(N, C, H, W)``.
        generator
            Draws the points.

        Returns
        -------
        x_adv
            The projected points, same shape.
        """
        return project_image_range(
            uniform_in_ball(x, norm=self.norm, epsilon=self.epsilon, generator=generator)
        )
