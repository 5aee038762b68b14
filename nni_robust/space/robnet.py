"""The search space of RobNets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nni.mutable import label_scope
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.nn.pytorch.base import recursive_freeze
from nni.nas.space import current_model, model_context
from numpy.random import RandomState
from torch import Tensor, nn

from nni_robust.space.cell import RobNetCell
from nni_robust.space.constraint import Bounds, GenotypeConstraint, Range
from nni_robust.space.macro import Macro
from nni_robust.space.published import PUBLISHED, find_published
from nni_robust.space.robnet_genotype import decode_cell
from nni_robust.space.sampling import GenotypeSampler

_ALL_OPERATIONS = "11" * 14
_DEFAULT_SEED = 0  # the default sample of a constrained space is drawn, always the same way


class RobNetSpace(ModelSpace):  # type: ignore[misc]  # NNI is untyped
    r"""Networks of cells whose 14 edges carry any subset of {separable convolution, identity}.

    Maps images (N, ``in_channels``, H, W) to logits (N, ``num_classes``). Every edge is one
    mutable, labelled ``cell/edge_i_j``, or ``cell_07/edge_i_j`` if cells differ; its value is
    a list such as ``["conv", "identity"]``. Frozen, the space is the network, weights kept.

    Parameters
    ----------
    num_cells
        Depth L; cells at L // 3 and 2 L // 3 halve the resolution and double the width.
    width
        Channels C of the nodes of the first cell, even.
    num_classes
        Classes of the classifier.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution; ``imagenet`` divides it by 8.
    cell_free
        Whether every cell has an architecture of its own, or all share one, reductions included.
    density, direct, direct_share, convolutions, parameters
        Ranges (lowest, highest) that every sample must keep; see
        :class:`nni_robust.space.Bounds`. A cell without any operation is never allowed.
    connected
        Whether every node must have an input.

    Notes
    -----
    [RobNets] Sec. 3.1 and the released networks: batch norm has no weights except in the stem,
    no auxiliary head, no dropout.

    Examples
    --------
    >>> import torch
    >>> space = RobNetSpace(num_cells=3, width=4, num_classes=10)
    >>> network = space.freeze(space.sample(["1111111111011101101101010111"]))
    >>> network(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        num_cells: int = 20,
        width: int = 36,
        num_classes: int = 10,
        in_channels: int = 3,
        stem: Literal["cifar", "imagenet"] = "cifar",
        cell_free: bool = False,
        density: Range | None = None,
        direct: Range | None = None,
        direct_share: Range | None = None,
        convolutions: Range | None = None,
        parameters: Range | None = None,
        connected: bool = False,
    ) -> None:
        super().__init__()
        self.macro = Macro(
            num_cells=num_cells,
            width=width,
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
            cell_free=cell_free,
        )
        self.bounds = Bounds(
            density=density,
            direct=direct,
            direct_share=direct_share,
            convolutions=convolutions,
            parameters=parameters,
            connected=connected,
        )
        if current_model() is None:  # a network that is built frozen has nothing to constrain
            self.add_mutable(GenotypeConstraint(self.bounds, self.macro))
        self.stem_0, self.stem_1 = self.macro.stems()
        self.cells = nn.ModuleList(self._build_cells())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(self.macro.out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        s0 = self.stem_0(x)
        s1 = s0 if self.stem_1 is None else self.stem_1(s0)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.classifier(self.pool(s1).flatten(1))  # type: ignore[no-any-return]

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return the network of a sample, with a copy of this space's weights.

        Raises
        ------
        ValueError
            If the sample breaks a constraint or lacks an edge.
        """
        self.validate(sample)
        network: nn.Module = recursive_freeze(self, sample, include_root=False)[0]
        return network

    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Write a sample as genotype strings, one for every distinct cell."""
        return self.macro.genotypes(sample)

    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Read genotype strings as a sample; the inverse of :meth:`genotypes`."""
        return self.macro.sample(genotypes)

    @classmethod
    def load_searched_model(
        cls,
        name: str,
        pretrained: bool = False,
        download: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> nn.Module:
        """Build a published architecture, untrained.

        Parameters
        ----------
        name
            One of :data:`nni_robust.space.PUBLISHED`, such as ``robnet-large``.
        pretrained, download, progress
            NNI's arguments; no weights come with the package, so ``pretrained`` must be false.
        **kwargs
            Arguments of the space that differ from the published ones, such as
            ``num_classes`` or ``width``.
        """
        published = find_published(name, PUBLISHED, pretrained=pretrained)
        arguments: dict[str, Any] = {
            "num_cells": published.num_cells,
            "width": published.width,
            "cell_free": len(published.genotypes) > 1,
            **kwargs,
        }
        space = cls(**arguments)
        sample = space.sample(published.genotypes)
        with model_context(sample):
            return cls(**arguments)

    def _build_cells(self) -> list[RobNetCell]:
        default = [decode_cell(genotype) for genotype in self._default_genotypes()]
        scopes = self.macro.scopes
        cells = []
        for index, plan in enumerate(self.macro.cells()):
            distinct = index if self.macro.cell_free else 0
            with label_scope(scopes[distinct]):
                cells.append(RobNetCell(plan, default=default[distinct]))
        return cells

    def _default_genotypes(self) -> list[str]:
        genotypes = [_ALL_OPERATIONS] * len(self.macro.scopes)
        if current_model() is not None:
            return genotypes
        if self.bounds.violation(genotypes, self.macro.count_parameters) is None:
            return genotypes
        sampler = GenotypeSampler(self.bounds, self.macro, RandomState(_DEFAULT_SEED))
        return self.macro.genotypes(sampler.draw())
