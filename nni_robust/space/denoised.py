"""RobNets with feature denoising."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from nni_robust.model import DenoisingBlock
from nni_robust.space.robnet import RobNetSpace


class DenoisedCell(nn.Module):
    """A cell and a denoising block on its output, so that all later cells read denoised features.

    Parameters
    ----------
    cell
        Maps two inputs to its output.
    channels
        Channels of its output.
    """

    def __init__(self, cell: nn.Module, channels: int) -> None:
        super().__init__()
        self.cell = cell
        self.denoise = DenoisingBlock(channels)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Map the two inputs to the denoised output."""
        features: Tensor = self.denoise(self.cell(s0, s1))
        return features


def denoised_robnet(name: str, **arguments: Any) -> nn.Module:
    """Build a published RobNet with a denoising block after the last cell of each stage.

    Parameters
    ----------
    name
        A name in :data:`nni_robust.space.PUBLISHED` of the kind ``robnet``.
    **arguments
        Arguments of :meth:`nni_robust.space.RobNetSpace.load_searched_model`.

    Notes
    -----
    [RobNets] Tab. 4 does not say where the blocks are. Here they are where Xie et al. (2019) put
    them in ResNets.
    """
    network: Any = RobNetSpace.load_searched_model(name, **arguments)
    plans = list(network.layout.cells())
    last = [i for i, (_, following) in enumerate(pairwise(plans)) if following.reduction]
    for index in [*last, len(plans) - 1]:
        network.cells[index] = DenoisedCell(network.cells[index], plans[index].out_channels)
    return network  # type: ignore[no-any-return]  # NNI is untyped
