"""Random noise within the threat model: the baseline that an attack must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_robust.attack.attack import Attack
from nni_robust.attack.loss import logit_margin
from nni_robust.attack.restart import worst_of
from nni_robust.check import check_count
from nni_robust.functional.projection import steepest_ascent


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Add uniform noise from the l_inf ball or the l_2 sphere; needs no gradient.

    Parameters
    ----------
    threat_model
        What the adversary may do; the noisy image is projected onto [0, 1].
    repeats
        Number of draws per image, at least 1. The worst one is kept: where the largest wrong logit
        exceeds the true one by the most.
    """

    repeats: int = 10

    def __post_init__(self) -> None:
        check_count("repeats", self.repeats)

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        draw = self._in_cube if self.threat_model.norm == "linf" else self._on_sphere
        return worst_of(
            self.repeats,
            lambda: draw(x, generator),
            network=network,
            y=y,
            logit_loss=lambda logits: logit_margin(logits, y),
        )

    def _in_cube(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.threat_model.random_start(x, generator)

    def _on_sphere(self, x: Tensor, generator: torch.Generator) -> Tensor:
        normal = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        direction = steepest_ascent(normal, norm="l2").to(x.device)
        return self.threat_model.project(x + self.threat_model.epsilon * direction, x)
