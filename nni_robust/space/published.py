"""The published architectures, as genotypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nni_robust.check import SettingError, did_you_mean
from nni_robust.space.darts_genotype import SCOPES, darts_edges
from nni_robust.space.edge import Edge
from nni_robust.space.robnet_genotype import robnet_edges

Kind = Literal["robnet", "darts", "hub"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published architecture.

    Attributes
    ----------
    kind
        ``robnet`` is an architecture of :class:`nni_robust.space.RobNetSpace`, ``darts`` one of
        :class:`nni_robust.space.RACLSpace`. ``hub`` has cells of five nodes, which may read a state
        twice; only NNI's hub builds them.
    genotypes
        ``robnet``: one string for all cells, or one per cell; see
        :mod:`nni_robust.space.robnet_genotype`. Otherwise the normal cell and the reduction cell;
        see :mod:`nni_robust.space.darts_genotype`.
    num_cells, width
        The size at which it was published.
    source
        Where the genotype was published.
    """

    kind: Kind
    genotypes: tuple[str, ...]
    num_cells: int = 20
    width: int = 36
    source: str = "the authors' release"

    def edges(self) -> dict[str, list[Edge]]:
        """Return the edges of every distinct cell, by name of the cell."""
        if self.kind != "robnet":
            return {
                scope: darts_edges(genotype)
                for scope, genotype in zip(SCOPES, self.genotypes, strict=True)
            }
        if len(self.genotypes) == 1:
            return {"cell": robnet_edges(self.genotypes[0])}
        return {f"cell {i}": robnet_edges(genotype) for i, genotype in enumerate(self.genotypes)}


_LARGE = ("1111111111011101101101010111",)
_FREE = (
    "1110111110110101101111001101",
    "1100011001001010000111101100",
    "1111110101110100100010100011",
    "1011100101101001101100000110",
    "1111010010101001100100100111",
    "1110111111011011001001110111",
    "1111111010011110011010100110",
    "0111111101111111011101111000",
    "1111111111010111100100100111",
    "1011010011111011011111111100",
    "1110110000001100011000011011",
    "0111011111101011101101111000",
    "1111101001001011110110100001",
    "0111111101011101011111011010",
    "0111111111010001101011101011",
    "1111001111010001100011011111",
    "1111011111101110101010101111",
    "1011011111011100111100100001",
    "1110111111111110110011011111",
    "1111010111110100001000010111",
)

_ROBNETS = {
    "robnet-small": Published(
        kind="robnet",
        genotypes=("1111011011100100011000101110",),
        source="a third party; the authors published none. Its size is that of the paper",
    ),
    "robnet-large": Published(kind="robnet", genotypes=_LARGE),
    "robnet-large-v2": Published(kind="robnet", genotypes=_LARGE, num_cells=33, width=64),
    "robnet-free": Published(kind="robnet", genotypes=_FREE),
}

_DARTS = {
    name: Published(kind="darts", genotypes=(normal, reduce), source=source)
    for name, source, normal, reduce in (
        (
            "racl",
            "released by its authors with a later paper",
            "sep_conv_3x3(0)+sep_conv_3x3(1)|sep_conv_5x5(0)+skip_connect(1)"
            "|sep_conv_3x3(0)+skip_connect(3)|sep_conv_3x3(3)+skip_connect(4)",
            "sep_conv_3x3(0)+sep_conv_5x5(1)|avg_pool_3x3(0)+dil_conv_3x3(1)"
            "|sep_conv_3x3(0)+sep_conv_5x5(1)|sep_conv_3x3(2)+dil_conv_3x3(3)",
        ),
        (
            "advrush",
            "the authors' release",
            "sep_conv_3x3(0)+sep_conv_3x3(1)|sep_conv_5x5(0)+sep_conv_3x3(1)"
            "|sep_conv_3x3(0)+sep_conv_3x3(1)|skip_connect(0)+sep_conv_3x3(1)",
            "sep_conv_3x3(0)+sep_conv_3x3(1)|skip_connect(0)+dil_conv_3x3(2)"
            "|skip_connect(0)+avg_pool_3x3(1)|skip_connect(0)+skip_connect(2)",
        ),
        (
            "darts-v1",
            "the authors' release",
            "sep_conv_3x3(0)+sep_conv_3x3(1)|skip_connect(0)+sep_conv_3x3(1)"
            "|skip_connect(0)+sep_conv_3x3(1)|sep_conv_3x3(0)+skip_connect(2)",
            "max_pool_3x3(0)+max_pool_3x3(1)|max_pool_3x3(0)+skip_connect(2)"
            "|max_pool_3x3(0)+skip_connect(2)|avg_pool_3x3(0)+skip_connect(2)",
        ),
        (
            "darts-v2",
            "the authors' release",
            "sep_conv_3x3(0)+sep_conv_3x3(1)|sep_conv_3x3(0)+sep_conv_3x3(1)"
            "|skip_connect(0)+sep_conv_3x3(1)|skip_connect(0)+dil_conv_3x3(2)",
            "max_pool_3x3(0)+max_pool_3x3(1)|max_pool_3x3(1)+skip_connect(2)"
            "|max_pool_3x3(0)+skip_connect(2)|max_pool_3x3(1)+skip_connect(2)",
        ),
        (
            "pc-darts",
            "the authors' release",
            "skip_connect(0)+sep_conv_3x3(1)|sep_conv_3x3(0)+dil_conv_3x3(1)"
            "|sep_conv_5x5(0)+sep_conv_3x3(1)|avg_pool_3x3(0)+dil_conv_3x3(1)",
            "max_pool_3x3(0)+sep_conv_5x5(1)|sep_conv_5x5(1)+sep_conv_5x5(2)"
            "|sep_conv_3x3(0)+sep_conv_3x3(3)|sep_conv_3x3(1)+sep_conv_3x3(2)",
        ),
        (
            "p-darts",
            "the authors' release",
            "skip_connect(0)+dil_conv_3x3(1)|skip_connect(0)+sep_conv_3x3(1)"
            "|sep_conv_3x3(1)+sep_conv_3x3(3)|sep_conv_3x3(0)+dil_conv_5x5(4)",
            "avg_pool_3x3(0)+sep_conv_5x5(1)|sep_conv_3x3(0)+dil_conv_5x5(2)"
            "|max_pool_3x3(0)+dil_conv_3x3(1)|dil_conv_3x3(1)+dil_conv_5x5(3)",
        ),
    )
}

# The output of NASNet-A concatenates all nodes, that of AmoebaNet-A the nodes that no other reads.
_HUB = {
    "nasnet-a": Published(
        kind="hub",
        genotypes=(
            "sep_conv_5x5(1)+sep_conv_3x3(0)|sep_conv_5x5(0)+sep_conv_3x3(0)"
            "|avg_pool_3x3(1)+skip_connect(0)|avg_pool_3x3(0)+avg_pool_3x3(0)"
            "|sep_conv_3x3(1)+skip_connect(1)",
            "sep_conv_5x5(1)+sep_conv_7x7(0)|max_pool_3x3(1)+sep_conv_7x7(0)"
            "|avg_pool_3x3(1)+sep_conv_5x5(0)|skip_connect(3)+avg_pool_3x3(2)"
            "|sep_conv_3x3(2)+max_pool_3x3(1)",
        ),
    ),
    "amoebanet-a": Published(
        kind="hub",
        genotypes=(
            "avg_pool_3x3(0)+max_pool_3x3(1)|sep_conv_3x3(0)+sep_conv_5x5(2)"
            "|sep_conv_3x3(0)+avg_pool_3x3(3)|sep_conv_3x3(1)+skip_connect(1)"
            "|skip_connect(0)+avg_pool_3x3(1)",
            "avg_pool_3x3(0)+sep_conv_3x3(1)|max_pool_3x3(0)+sep_conv_7x7(2)"
            "|sep_conv_7x7(0)+avg_pool_3x3(1)|max_pool_3x3(0)+max_pool_3x3(1)"
            "|conv_7x1_1x7(0)+sep_conv_3x3(5)",
        ),
    ),
}

PUBLISHED: dict[str, Published] = {**_ROBNETS, **_DARTS, **_HUB}
"""Published architectures by name."""


def published_names(*kinds: Kind) -> list[str]:
    """Return the names of the published architectures of some kinds.

    Examples
    --------
    >>> published_names("hub")
    ['nasnet-a', 'amoebanet-a']
    """
    return [name for name, published in PUBLISHED.items() if published.kind in kinds]


def find_published(name: str, kind: Kind, *, pretrained: bool) -> Published:
    """Return a published architecture.

    Parameters
    ----------
    name
        One of :data:`PUBLISHED`.
    kind
        The kind that it must have.
    pretrained
        Must be false, since the package contains no weights.
    """
    if pretrained:
        raise SettingError(
            "must be False: this package contains architectures, but weights do not come with it. "
            "Train the network, or load your own state dict.",
            "pretrained",
        )
    names = sorted(published_names(kind))
    if name not in names:
        raise SettingError(
            f"must be one of {names}, got {name!r}.{did_you_mean(name, names)}", "name"
        )
    return PUBLISHED[name]
