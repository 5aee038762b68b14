"""The search space of RACL: cells of DARTS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nni.mutable import label_scope
from nni.nas.space import model_context
from torch import nn

from nni_robust.check import SettingError, check_count
from nni_robust.space.cell import RACLCell
from nni_robust.space.darts_genotype import (
    OPERATIONS,
    SCOPES,
    chosen_edges,
    decode_darts,
    encode_darts,
)
from nni_robust.space.edge import Edge
from nni_robust.space.layout import CellPlan, Layout, StemKind
from nni_robust.space.network import CellNetwork
from nni_robust.space.published import find_published

RETRAINING: dict[str, Any] = {
    "num_cells": 20,
    "width": 36,
    "partial_channels": 1,
    "affine": True,
}
"""Arguments of the space for the training of a derived network: [RACL] Table 1."""


class RACLSpace(CellNetwork):
    r"""Networks of normal and reduction cells with one operation per edge and two inputs per node.

    Maps images (N, ``in_channels``, H, W) to logits (N, ``num_classes``). Edges have labels such as
    ``normal/edge_0_2`` and the inputs of a node ``normal/input_2``; ``reduce`` in place of
    ``normal`` is for the cells that halve the resolution. The space consists of NNI's LayerChoice
    and InputChoice, so every strategy of NNI can search it.

    Parameters
    ----------
    num_cells
        Depth L, at least 3. The cells at L // 3 and 2 L // 3 are reductions. The paper has 8 in the
        search and 20 in the training of the derived network.
    width
        Channels C of the nodes of the first cell. The paper has 16 in the search and 36 in the
        training of the derived network.
    num_classes
        Number of classes.
    in_channels
        Channels of the images.
    stem
        ``cifar`` keeps the resolution; ``imagenet`` divides it by 8.
    partial_channels
        K: in the search, operations are applied to one channel in K. Set 1 to train a derived
        network.
    affine
        False for the search: batch norms have no weights. True to train a derived network: batch
        norms have weights, and there is none after poolings.
    operations
        Operations that an edge may carry.

    Notes
    -----
    [RACL] Sec. 2.1 and 3.1, with the partial channels of PC-DARTS. With 36 channels and 20 cells
    the published cells have the paper's 3.6 million parameters:

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
        stem: StemKind = "cifar",
        partial_channels: int = 4,
        affine: bool = False,
        operations: Sequence[str] = OPERATIONS,
    ) -> None:
        check_count("num_cells", num_cells, least=3)  # so that there are cells of both kinds
        check_count("partial_channels", partial_channels)
        layout = Layout(
            num_cells=num_cells,
            width=width,
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
        )
        if width % (2 * partial_channels):
            raise SettingError(
                "must be a multiple of twice partial_channels, because a reduction halves the "
                f"channels that an operation sees, got {width!r} and {partial_channels!r}.",
                "width",
            )
        _check_operations(operations)

        def build_cell(index: int, plan: CellPlan) -> nn.Module:
            with label_scope(SCOPES[plan.reduction]):
                return RACLCell(
                    plan, operations=operations, partial_channels=partial_channels, affine=affine
                )

        super().__init__(layout, build_cell)
        self.operations = tuple(operations)

    def genotypes(self, sample: Mapping[str, Any]) -> list[str]:
        """Return the genotypes of a sample: the normal cell and the reduction cell."""
        return encode_darts(sample)

    def sample(self, genotypes: Sequence[str]) -> dict[str, Any]:
        """Return the sample of genotypes; the inverse of :meth:`genotypes`."""
        return decode_darts(genotypes, unused=self.operations[0])

    def edges(self, sample: Mapping[str, Any]) -> dict[str, list[Edge]]:
        """Return the edges of the ``normal`` and of the ``reduce`` cell of a sample."""
        return {scope: chosen_edges(sample, scope) for scope in SCOPES}

    @classmethod
    def load_searched_model(
        cls,
        name: str,
        pretrained: bool = False,
        download: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> nn.Module:
        """Build a published network with the arguments :data:`RETRAINING` and initial weights.

        Parameters
        ----------
        name
            A name in :data:`nni_robust.space.PUBLISHED` of the kind ``darts``, such as ``racl``.
        pretrained, download, progress
            Arguments that NNI defines. The package contains no weights, so ``pretrained`` must be
            false.
        **kwargs
            Arguments of the space that replace those of :data:`RETRAINING`.
        """
        published = find_published(name, "darts", pretrained=pretrained)
        with model_context(decode_darts(published.genotypes)):
            return cls(**{**RETRAINING, **kwargs})


def _check_operations(operations: Sequence[str]) -> None:
    unknown = sorted(set(operations) - set(OPERATIONS))
    if unknown or len(set(operations)) != len(operations) or not set(operations) - {"none"}:
        raise SettingError(
            f"must be different names from {list(OPERATIONS)}, at least one other than 'none', "
            f"got {list(operations)}.",
            "operations",
        )
