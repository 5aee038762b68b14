"""The published architectures, as genotypes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published architecture.

    Attributes
    ----------
    genotypes
        One string for all cells, or one for each.
    num_cells, width
        The size at which it was published.
    source
        Where the genotype was printed.
    """

    genotypes: tuple[str, ...]
    num_cells: int = 20
    width: int = 36
    source: str = "the authors' release"


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

PUBLISHED: dict[str, Published] = {
    "robnet-small": Published(
        genotypes=("1111011011100100011000101110",),
        source="a third party; the authors published none. Its size is that of the paper",
    ),
    "robnet-large": Published(genotypes=_LARGE),
    "robnet-large-v2": Published(genotypes=_LARGE, num_cells=33, width=64),
    "robnet-free": Published(genotypes=_FREE),
}

PUBLISHED_DARTS: dict[str, Published] = {
    name: Published(genotypes=(normal, reduce), source=source)
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
"""Cells of :class:`nni_robust.space.RACLSpace`: the normal one, then the reduction."""


def find_published(name: str, table: dict[str, Published], *, pretrained: bool) -> Published:
    """Look up a published architecture.

    Parameters
    ----------
    name
        Its key.
    table
        Where it stands.
    pretrained
        Must be false, since no weights come with the package.
    """
    if pretrained:
        raise ValueError(
            "pretrained must be False: architectures come with this package, weights do not. "
            "Train the network, or load a state dict of your own."
        )
    if name not in table:
        raise ValueError(f"name must be one of {sorted(table)}, got {name!r}.")
    return table[name]
