"""The transfer attack: adversarial images made on one network are shown to another."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nni_robust.attack.attack import Attack
from nni_robust.attack.pgd import PGD
from nni_robust.attack.threat_model import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Attack a source network, and use the images against any other network.

    The attacked network is never run: the adversary has no access to it.

    Parameters
    ----------
    source
        The network on which the images are made: in evaluation mode, on the device of the images.
        It stays unchanged.
    attack
        The attack on the source. The transfer has its threat model.

    Raises
    ------
    RuntimeError
        On a call, if the source is in training mode.

    Notes
    -----
    [RobNets] Tab. 2 and 8, [RACL] Tab. 2 and 3. The name does not contain the source, so measure
    transfers from two sources separately.
    """

    source: nn.Module = field(repr=False)
    attack: Attack = PGD()  # noqa: RUF009  # an immutable value
    threat_model: ThreatModel = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "threat_model", self.attack.threat_model)

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self.source.training:
            raise RuntimeError(
                "source must be in evaluation mode when it is attacked, got training mode. "
                "Call source.eval() first."
            )
        return self.attack(self.source, x, y, generator=generator)
