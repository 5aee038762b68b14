"""The transfer attack: images made on one network, shown to another."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nni_robust.attack.base import Attack, ThreatModel
from nni_robust.attack.pgd import PGD


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """An attack on a source network, whatever network it is then held against.

    The network attacked is not looked at: the adversary has no access to it.

    Parameters
    ----------
    source
        The network that the images are made on, in evaluation mode, on the device of the images.
        It is left as found.
    attack
        How they are made. Its threat model is that of the transfer.

    Notes
    -----
    [RobNets] Tab. 2 and 8, [RACL] Tab. 2 and 3. Two sources give one name: measure them one after
    the other.
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
                "Call source.eval() before."
            )
        return self.attack(self.source, x, y, generator=generator)
