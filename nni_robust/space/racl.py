"""The search space of RACL: cells of DARTS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nni.mutable import label_scope
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import model_context
from torch import Tensor, nn

from nni_robust.space.cell import RACLCell
from nni_robust.space.darts_genotype import OPERATIONS, SCOPES, decode_darts, encode_darts
from nni_robust.space.layout import Layout
from nni_robust.space.published import PUBLISHED_DARTS, find_published


class RACLSpace(ModelSpace):  # type: ignore[misc]  # NNI is untyped
    r"""Networks of normal and reduction cells, one operation an edge, two inputs a node.

    Maps images (N, ``in_channels``, H, W) to logits (N, ``num_classes``). Edges are labelled
    ``normal/edge_0_2``, the inputs of a node ``normal/input_2``; ``reduce`` stands for the cells
    that halve the resolution. It is built of NNI's LayerChoice and InputChoice, so every strategy
    of NNI's searches it.

    Parameters
    ----------
    num_cells
        Depth L; cells at L // 3 and 2 L // 3 are reductions. 8 in the search, 20 after it.
    width
        Channels C of the nodes of the first cell. 16 in the search, 36 after it.
    num_classes, in_channels
        Of the classifier and of the images.
    stem
        ``cifar`` keeps the resolution; ``imagenet`` divides it by 8.
    partial_channels
        K: in the search, operations see one channel in K. A network that is trained by itself
        takes 1.
    affine
        False is the form of the search: batch norms without weights. True is the form of the
        retraining: batch norms with weights, and none after poolings.
    operations
        What an edge may carry.

    Notes
    -----
    [RACL] Sec. 2.1 and 3.1, with partial channels after PC-DARTS. 36 channels and 20 cells give
    the published cell the paper's 3.6 million parameters:

    Examples
    --------
    >>> network = RACLSpace.load_searched_model("racl")
    >>> sum(p.numel() for p in network.parameters())
    3571174
    """

    def __init__(
        self,
        *,
        num_cells: int = 8,
        width: int = 16,
        num_classes: int = 10,
        in_channels: int = 3,
        stem: Literal["cifar", "imagenet"] = "cifar",
        partial_channels: int = 4,
        affine: bool = False,
        operations: Sequence[str] = OPERATIONS,
    ) -> None:
        super().__init__()
        if num_cells < 3:
            raise ValueError(
                f"num_cells must be at least 3, so that there are cells of both kinds, "
                f"got {num_cells!r}."
            )
        if partial_channels < 1 or width % (2 * partial_channels):
            raise ValueError(
                f"width must be a multiple of twice partial_channels, since a reduction halves the "
                f"channels that an operation sees, got {width!r} and {partial_channels!r}."
            )
        _check_operations(operations)
        self.operations = tuple(operations)
        self.layout = Layout(
            num_cells=num_cells,
            width=width,
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
        )
        self.stem_0, self.stem_1 = self.layout.stems()
        self.cells = nn.ModuleList()
        for plan in self.layout.cells():
            with label_scope(SCOPES[plan.reduction]):
                self.cells.append(
                    RACLCell(
                        plan,
                        operations=operations,
                        partial_channels=partial_channels,
                        affine=affine,
                    )
                )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(self.layout.out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        s0 = self.stem_0(x)
        s1 = s0 if self.stem_1 is None else self.stem_1(s0)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.classifier(self.pool(s1).flatten(1))  # type: ignore[no-any-return]

    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Return the genotype of a sample: one string per cell type, as ``encode_darts``."""
        return encode_darts(sample)

    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Read the strings of :meth:`genotypes`."""
        return decode_darts(genotypes, unused=self.operations[0])

    @classmethod
    def load_searched_model(
        cls,
        name: str,
        pretrained: bool = False,
        download: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> nn.Module:
        """Build a published architecture in the form of the retraining, without weights.

        Parameters
        ----------
        name
            One of :data:`nni_robust.space.PUBLISHED_DARTS`, such as ``racl``.
        pretrained, download, progress
            NNI's arguments; no weights come with the package, so ``pretrained`` must be false.
        **kwargs
            Arguments of the space that differ from 20 cells of width 36.
        """
        published = find_published(name, PUBLISHED_DARTS, pretrained=pretrained)
        arguments = {**RETRAINING, **kwargs}
        with model_context(decode_darts(published.genotypes)):
            return cls(**arguments)


RETRAINING: dict[str, Any] = {
    "num_cells": 20,
    "width": 36,
    "partial_channels": 1,
    "affine": True,
}
"""Arguments of the space in which a derived cell is trained by itself: [RACL] Table 1."""


def _check_operations(operations: Sequence[str]) -> None:
    unknown = sorted(set(operations) - set(OPERATIONS))
    if unknown or len(set(operations)) != len(operations) or not set(operations) - {"none"}:
        raise ValueError(
            f"operations must be different names of {list(OPERATIONS)}, at least one besides "
            f"'none', got {list(operations)}."
        )
