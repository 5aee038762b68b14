"""The architectures printed with [RobNets], as genotypes."""

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
