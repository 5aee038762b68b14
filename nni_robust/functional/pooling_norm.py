r"""Norms of pooling: Lipschitz constants in the :math:`l_2` norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nni_robust.functional.convolution_norm import Pair


def average_pool_norm(
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> float:
    r"""Return the norm of average pooling, a linear map.

    It averages along the height and then along the width. So its norm is the product of the norms
    of two small matrices.

    Parameters
    ----------
    size
        (H, W) of the input.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As in `torch.nn.AvgPool2d`.

    Examples
    --------
    >>> round(average_pool_norm((8, 8), (2, 2), (2, 2), (0, 0)), 6)
    0.5
    """
    norm = 1.0
    for n, k, s, p in zip(size, kernel_size, stride, padding, strict=True):
        matrix = F.avg_pool1d(_unit_vectors(n), k, s, p, ceil_mode, count_include_pad)[:, 0]
        norm *= float(torch.linalg.matrix_norm(matrix, ord=2))
    return norm


def max_pool_norm(
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    *,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> float:
    r"""Return the Lipschitz constant of max pooling.

    .. math::

        \|p(x) - p(y)\|^2 \le \sum_w \max_{i \in w} |x_i - y_i|^2 \le \sum_i n_i |x_i - y_i|^2

    over windows w and pixels i, where :math:`n_i` windows contain pixel i. So the constant is at
    most the root of the largest :math:`n_i`. A single bright pixel there, against none, reaches it.

    Parameters
    ----------
    size
        (H, W) of the input.
    kernel_size, stride, padding, dilation, ceil_mode
        As in `torch.nn.MaxPool2d`.

    Examples
    --------
    >>> max_pool_norm((8, 8), (3, 3), (1, 1), (1, 1)), max_pool_norm((8, 8), (3, 3), (2, 2), (1, 1))
    (3.0, 2.0)
    """
    counts = [
        int((F.max_pool1d(_unit_vectors(n), k, s, p, d, ceil_mode) > 0).sum(-1).max())
        for n, k, s, p, d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    ]
    return math.sqrt(math.prod(counts))


def paper_average_pool_norm(stride: Pair) -> float:
    r"""Return the paper's constant of average pooling, :math:`S^{-1/2}` at stride S.

    Parameters
    ----------
    stride
        Strides in height and width; S is their geometric mean.

    Notes
    -----
    [RACL] Sec. 2.2, where max pooling has the constant 1. This is the norm of averaging S pixels
    along one direction. `average_pool_norm` and `max_pool_norm` return the operations' own norms.

    Examples
    --------
    >>> paper_average_pool_norm((1, 1)), paper_average_pool_norm((4, 4))
    (1.0, 0.5)
    """
    return float(math.prod(stride) ** -0.25)


def _unit_vectors(n: int) -> Tensor:
    """Return n signals of length n with a single 1 each; their images are the map's matrix."""
    return torch.eye(n, dtype=torch.float64)[:, None]
