"""The search space of RobNets, and published RobNets with feature denoising."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from nni.mutable import label_scope
from nni.nas.nn.pytorch.base import recursive_freeze
from nni.nas.space import current_model, model_context
from numpy.random import RandomState
from torch import Tensor, nn

from nni_robust.model import DenoisingBlock
from nni_robust.space.cell import RobNetCell
from nni_robust.space.constraint import Bounds, GenotypeConstraint, Range
from nni_robust.space.edge import Edge
from nni_robust.space.layout import CellPlan, RobNetLayout, StemKind
from nni_robust.space.network import CellNetwork
from nni_robust.space.published import find_published
from nni_robust.space.robnet_genotype import decode_cell, robnet_edges
from nni_robust.space.sampling import genotype_sampler

_ALL_OPERATIONS = "11" * 14
_DEFAULT_SEED = 0  # the default sample of a constrained space is drawn with this seed


class RobNetSpace(CellNetwork):
    r"""Networks of cells whose 14 edges carry any subset of {separable convolution, identity}.

    Maps images (N, ``in_channels``, H, W) to logits (N, ``num_classes``). Each edge is one mutable
    with the label ``cell/edge_i_j``, or ``cell_07/edge_i_j`` if ``cell_free``. Its value is a list
    such as ``["conv", "identity"]``. Freezing the space returns a network with copies of the
    weights.

    Parameters
    ----------
    num_cells
        Depth L. The cells at L // 3 and 2 L // 3 halve the resolution and double the width.
    width
        Channels C of the nodes of the first cell, even.
    num_classes
        Number of classes.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution; ``imagenet`` divides it by 8.
    cell_free
        Whether every cell has its own architecture. Otherwise all cells share one, including the
        reductions.
    density, direct, direct_share, convolutions, parameters
        Ranges (lowest, highest) for every sample; see :class:`nni_robust.space.Bounds`. A cell
        without any operation is never allowed.
    connected
        Whether every node must have an input.

    Notes
    -----
    [RobNets] Sec. 3.1 and the released networks: only the batch norms of the stem have weights, and
    there is neither an auxiliary head nor dropout.

    Examples
    --------
    >>> import torch
    >>> space = RobNetSpace(num_cells=3, width=4, num_classes=10)
    >>> network = space.freeze(space.sample(["1111111111011101101101010111"]))
    >>> network(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    layout: RobNetLayout

    def __init__(
        self,
        *,
        num_cells: int = 20,
        width: int = 36,
        num_classes: int = 10,
        in_channels: int = 3,
        stem: StemKind = "cifar",
        cell_free: bool = False,
        density: Range | None = None,
        direct: Range | None = None,
        direct_share: Range | None = None,
        convolutions: Range | None = None,
        parameters: Range | None = None,
        connected: bool = False,
    ) -> None:
        layout = RobNetLayout(
            num_cells=num_cells,
            width=width,
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
            cell_free=cell_free,
        )
        bounds = Bounds(
            density=density,
            direct=direct,
            direct_share=direct_share,
            convolutions=convolutions,
            parameters=parameters,
            connected=connected,
        )
        default = [decode_cell(genotype) for genotype in _default_genotypes(bounds, layout)]

        def build_cell(index: int, plan: CellPlan) -> nn.Module:
            distinct = index if cell_free else 0
            with label_scope(layout.scopes[distinct]):
                return RobNetCell(plan, default=default[distinct])

        super().__init__(layout, build_cell)
        self.bounds = bounds
        if current_model() is None:  # a network that is built frozen needs no constraint
            self.add_mutable(GenotypeConstraint(bounds, layout))

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return the network of a sample, with copies of the weights of this space.

        Raises
        ------
        ValueError
            If the sample violates a constraint or lacks an edge.
        """
        self.validate(sample)
        network: nn.Module = recursive_freeze(self, sample, include_root=False)[0]
        return network

    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Return the genotypes of a sample, one string per distinct cell."""
        return self.layout.genotypes(sample)

    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Return the sample of genotypes; the inverse of :meth:`genotypes`."""
        return self.layout.sample(genotypes)

    def edges(self, sample: Mapping[str, Any]) -> dict[str, list[Edge]]:
        """Return the edges of every distinct cell of a sample, by label scope of the cell."""
        genotypes = self.layout.genotypes(sample)
        return {
            scope: robnet_edges(genotype)
            for scope, genotype in zip(self.layout.scopes, genotypes, strict=True)
        }

    @classmethod
    def load_searched_model(
        cls,
        name: str,
        pretrained: bool = False,
        download: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> nn.Module:
        """Build a published network with initial weights.

        Parameters
        ----------
        name
            A name in :data:`nni_robust.space.PUBLISHED` of the kind ``robnet``, such as
            ``robnet-large``.
        pretrained, download, progress
            Arguments that NNI defines. The package contains no weights, so ``pretrained`` must be
            false.
        **kwargs
            Arguments of the space that replace the published ones, such as ``num_classes`` or
            ``width``.
        """
        published = find_published(name, "robnet", pretrained=pretrained)
        arguments: dict[str, Any] = {
            "num_cells": published.num_cells,
            "width": published.width,
            "cell_free": len(published.genotypes) > 1,
            **kwargs,
        }
        # The layout alone could read the genotypes. Building the space draws random numbers before
        # the network does; without them a seed would give other initial weights than it gave in the
        # recorded trainings.
        sample = cls(**arguments).sample(published.genotypes)
        with model_context(sample):
            return cls(**arguments)


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


def _default_genotypes(bounds: Bounds, layout: RobNetLayout) -> list[str]:
    """Return all operations if the bounds allow them, otherwise a draw within the bounds."""
    genotypes = [_ALL_OPERATIONS] * len(layout.scopes)
    if current_model() is not None or not bounds.violation(genotypes, layout.count_parameters):
        return genotypes
    sampler = genotype_sampler(bounds, layout, RandomState(_DEFAULT_SEED))
    return layout.genotypes(sampler.draw())
