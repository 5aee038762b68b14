"""The flow of solution procedure (FSP) matrix of a cell, and how far an attack moves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional as F

from nni_robust.check import check_choice

Normalize = Literal["unit", "none"]
Pool = Literal["max", "avg"]
Reduction = Literal["sum", "mean"]

_POOLS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "max": F.adaptive_max_pool2d,
    "avg": F.adaptive_avg_pool2d,
}

# Replaces the length of a channel vector that is 0 (dead ReLUs, cells without edges), which then
# stays 0. Features are of the order of 1, so no other vector changes.
_MIN_LENGTH = 1e-12


def fsp_matrix(
    a: Tensor, b: Tensor, *, normalize: Normalize = "unit", pool: Pool = "max"
) -> Tensor:
    r"""Return the correlations of the channels of two feature maps over all positions.

    .. math::

        G_{ij} = \frac{1}{h w} \sum_{s=1}^{h} \sum_{t=1}^{w} A_{s,t,i} \, B_{s,t,j}.

    Parameters
    ----------
    a
        Features that enter the cell, shape ``(N, C_in, H', W')``.
    b
        Features that leave the cell, shape ``(N, C_out, H, W)``.
    normalize
        ``"unit"`` divides the channel vector of every position by its l_2 norm, after pooling;
        ``"none"`` uses the features as they are.
    pool
        How the larger map is reduced to the size of the smaller one, if they differ.

    Returns
    -------
    matrix
        One matrix per image, shape ``(N, C_in, C_out)``.

    Notes
    -----
    [RobNets] Eq. 3, which has no normalisation. The literal formula (``"none"``) cannot produce the
    values that the paper reports, so ``"unit"`` is the default.

    Examples
    --------
    >>> import torch
    >>> a = torch.tensor([[[[3.0]], [[4.0]]]])  # one position, two channels
    >>> fsp_matrix(a, a, normalize="none")
    tensor([[[ 9., 12.],
             [12., 16.]]])
    """
    check_choice("normalize", normalize, get_args(Normalize))
    check_choice("pool", pool, get_args(Pool))
    if a.dim() != 4 or b.dim() != 4 or len(a) != len(b):
        raise ValueError(
            "a and b must be feature maps (N, C, H, W) of the same images, "
            f"got shapes {tuple(a.shape)} and {tuple(b.shape)}."
        )
    a, b = _same_size(a, b, pool)
    if normalize == "unit":
        a = F.normalize(a, dim=1, eps=_MIN_LENGTH)
        b = F.normalize(b, dim=1, eps=_MIN_LENGTH)
    a, b = a.flatten(2), b.flatten(2)  # (N, C_in, H W), (N, C_out, H W)
    return a @ b.mT / a.shape[2]


def fsp_distance(
    clean: tuple[Tensor, Tensor],
    attacked: tuple[Tensor, Tensor],
    *,
    normalize: Normalize = "unit",
    pool: Pool = "max",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Return how far an attack moves the FSP matrix of a cell.

    .. math::

        L = \sum_{ij} \bigl(G_{ij}(x) - G_{ij}(x')\bigr)^2.

    Parameters
    ----------
    clean
        Features that enter and leave the cell for x, as in `fsp_matrix`.
    attacked
        The same features for x'.
    normalize, pool
        As in `fsp_matrix`.
    reduction
        ``"sum"`` for the squared Frobenius norm, ``"mean"`` for its mean over the entries.

    Returns
    -------
    distance
        One distance per image, shape ``(N,)``.

    Notes
    -----
    [RobNets] Eq. 4, before its mean over the images. The paper does not say whether its squared
    norm is a sum or a mean.

    Examples
    --------
    >>> import torch
    >>> a, b = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    >>> fsp_distance((a, a), (a, b))
    tensor([1.])
    """
    check_choice("reduction", reduction, get_args(Reduction))
    before = fsp_matrix(*clean, normalize=normalize, pool=pool)
    after = fsp_matrix(*attacked, normalize=normalize, pool=pool)
    if before.shape != after.shape:
        raise ValueError(
            "clean and attacked must come from the same cell and the same images, got FSP "
            f"matrices of shapes {tuple(before.shape)} and {tuple(after.shape)}."
        )
    squares = (before - after).square()
    return squares.sum((1, 2)) if reduction == "sum" else squares.mean((1, 2))


def _same_size(a: Tensor, b: Tensor, pool: Pool) -> tuple[Tensor, Tensor]:
    """Return the maps, the larger one pooled to the size of the smaller one."""
    size_a, size_b = (a.shape[2], a.shape[3]), (b.shape[2], b.shape[3])
    if size_a == size_b:
        return a, b
    if size_a[0] >= size_b[0] and size_a[1] >= size_b[1]:
        return _POOLS[pool](a, size_b), b
    if size_a[0] <= size_b[0] and size_a[1] <= size_b[1]:
        return a, _POOLS[pool](b, size_a)
    raise ValueError(
        "one of a and b must be at least as large as the other in height and width, "
        f"got sizes {size_a} and {size_b}."
    )
