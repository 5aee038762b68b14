r"""Lipschitz constants in the :math:`l_2` norm: of convolutions in a row, and of poolings.

A convolution has three constants here. `operator_norm` is that of the map itself, with its zero
border and its stride, and takes several convolutions in a row as one map; `circular_norm` is an
upper bound in closed form; `reshaped_norm` is that of the weight written as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Say how a kernel is moved over an image, as `torch.nn.Conv2d` does; the border is zero.

    Parameters
    ----------
    stride, padding, dilation
        In height and width.
    groups
        Number of blocks into which the channels are divided.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def output_size(self, size: Pair, kernel_size: Pair) -> Pair:
        """Give height and width of the output.

        Examples
        --------
        >>> Convolution(stride=(2, 2), padding=(1, 1)).output_size((7, 8), (3, 3))
        (4, 4)
        """
        height, width = (
            (n + 2 * self.padding[i] - self.dilation[i] * (kernel_size[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i, n in enumerate(size)
        )
        return height, width


def operator_norm(
    weights: Sequence[Tensor],
    convolutions: Sequence[Convolution],
    vectors: Tensor,
    *,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    r"""Measure several convolutions in a row as one linear map A, by power iteration.

    .. math::

        u = A v / \|A v\|, \qquad \sigma = \|A^T u\| \le \|A\|, \qquad v \leftarrow A^T u / \sigma.

    B maps of one shape are measured at once. A and its transpose are applied to maps of the real
    size, with the real stride, dilation and zero border.

    Parameters
    ----------
    weights
        One for each convolution in a row, shape ``(B, out, in / groups, kh, kw)``.
    convolutions
        How each weight is applied.
    vectors
        Where the iteration starts, shape ``(B, C, H, W)``, of any length but 0: at random, or where
        an earlier call ended.
    iterations
        Number of steps, at least 1.

    Returns
    -------
    norms
        Estimates of the norms, never above them, shape ``(B,)``; 0 for a map that is 0.
    vectors
        Where the iteration ended, of length 1, shape ``(B, C, H, W)``.

    Examples
    --------
    >>> weight = torch.tensor([2.0, 3.0]).view(2, 1, 1, 1, 1)  # two maps: times 2, times 3
    >>> norms, _ = operator_norm([weight], [Convolution()], torch.ones(2, 1, 4, 4), iterations=1)
    >>> norms
    tensor([2., 3.])
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations!r}.")
    if len(weights) != len(convolutions) or not weights:
        raise ValueError(
            "weights and convolutions must belong together one by one, "
            f"got {len(weights)} and {len(convolutions)} of them."
        )
    v, _ = _unit(vectors)
    norms = v.new_zeros(len(v))
    for _ in range(iterations):
        u, sizes = _apply(weights, convolutions, v)
        w, norms = _unit(_apply_transposed(weights, convolutions, _unit(u)[0], sizes))
        # A map that is 0 would end the iteration for good: wait where it is.
        v = torch.where((norms > 0).view(-1, 1, 1, 1), w, v)
    return norms, v


def circular_norm(weight: Tensor, convolution: Convolution, size: Pair) -> Tensor:
    r"""Bound the norm of a convolution by that of a circular one, in closed form.

    .. math:: \max_f \sigma_{\max} \bigl(\hat{k}(f)\bigr)

    over the frequencies f of a torus so large that no kernel wraps round onto the image; there the
    convolution with zero border is a part of the circular one. For 1x1 kernels it is the norm
    itself. A stride only leaves outputs out.

    Parameters
    ----------
    weight
        Shape ``(B, out, in / groups, kh, kw)``.
    convolution
        How the weight is applied.
    size
        (H, W) of the input.

    Returns
    -------
    norms
        Shape ``(B,)``.

    Notes
    -----
    Sedghi, Gupta, Long, *The singular values of convolutional layers*, ICLR 2019.

    Examples
    --------
    >>> circular_norm(torch.ones(1, 1, 1, 3, 3), Convolution(padding=(1, 1)), (8, 8))
    tensor([9.])
    """
    kernel = _dilate(weight, convolution.dilation)
    grid = [1 if k == 1 else n + k - 1 for n, k in zip(size, kernel.shape[-2:], strict=True)]
    spectrum = torch.fft.rfft2(kernel, s=grid)  # (B, out, in / groups, H', W' / 2 + 1)
    blocks = spectrum.reshape(len(weight), convolution.groups, -1, *spectrum.shape[2:])
    matrices = blocks.permute(0, 1, 4, 5, 2, 3)
    norms: Tensor
    if 1 in matrices.shape[-2:]:  # depthwise: one row or one column is a vector
        norms = torch.linalg.vector_norm(matrices, dim=(-2, -1))
    else:
        norms = torch.linalg.matrix_norm(matrices, ord=2)
    return norms.flatten(1).amax(1)


def reshaped_norm(weight: Tensor) -> Tensor:
    """Measure a weight written as the matrix (out, in / groups * kh * kw).

    For kernels larger than 1x1 this is neither the norm of the convolution nor a bound of it.

    Parameters
    ----------
    weight
        Shape ``(B, out, in / groups, kh, kw)``.

    Returns
    -------
    norms
        Largest singular values, shape ``(B,)``.

    Notes
    -----
    Yoshida, Miyato, *Spectral norm regularization*, 2017, to which [RACL] Sec. 2.2 refers.
    """
    norms: Tensor = torch.linalg.matrix_norm(weight.flatten(2), ord=2)
    return norms


def average_pool_norm(
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> float:
    r"""Measure average pooling, a linear map.

    It averages along the height and then along the width, so its norm is the product of the norms
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
    r"""Give the Lipschitz constant of max pooling.

    .. math::

        \|p(x) - p(y)\|^2 \le \sum_w \max_{i \in w} |x_i - y_i|^2 \le \sum_i n_i |x_i - y_i|^2

    over windows w and pixels i, where :math:`n_i` windows hold pixel i. So the constant is at most
    the root of the largest :math:`n_i`, and a single bright pixel there, against none, reaches it.

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
    r"""Give the constant of average pooling of the paper, :math:`S^{-1/2}` at stride S.

    Parameters
    ----------
    stride
        In height and width; S is their geometric mean.

    Notes
    -----
    [RACL] Sec. 2.2, which gives max pooling the constant 1. It is the norm of averaging S pixels
    along one direction; `average_pool_norm` and `max_pool_norm` are those of the operations.

    Examples
    --------
    >>> paper_average_pool_norm((1, 1)), paper_average_pool_norm((4, 4))
    (1.0, 0.5)
    """
    return float(math.prod(stride) ** -0.25)


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Bring every map to length 1, and give the lengths; what is 0 stays 0."""
    lengths = torch.linalg.vector_norm(x, dim=(1, 2, 3))
    tiny = torch.finfo(x.dtype).tiny
    return x / lengths.clamp_min(tiny).view(-1, 1, 1, 1), lengths


def _apply(
    weights: Sequence[Tensor], convolutions: Sequence[Convolution], x: Tensor
) -> tuple[Tensor, list[Pair]]:
    """Apply B rows of convolutions to one image each; also give the sizes of what each read."""
    batch, sizes = len(x), []
    for weight, conv in zip(weights, convolutions, strict=True):
        sizes.append((x.shape[2], x.shape[3]))
        y = F.conv2d(
            x.flatten(0, 1)[None],  # (1, B C, H, W)
            weight.flatten(0, 1),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=batch * conv.groups,
        )
        x = y.view(batch, -1, *y.shape[2:])
    return x, sizes


def _apply_transposed(
    weights: Sequence[Tensor], convolutions: Sequence[Convolution], x: Tensor, sizes: list[Pair]
) -> Tensor:
    """Apply the transpose of `_apply`; the sizes say what the strides have rounded away."""
    batch = len(x)
    for weight, conv, size in zip(
        reversed(weights), reversed(convolutions), reversed(sizes), strict=True
    ):
        rest = [
            n
            - (m - 1) * conv.stride[i]
            + 2 * conv.padding[i]
            - conv.dilation[i] * (weight.shape[3 + i] - 1)
            - 1
            for i, (n, m) in enumerate(zip(size, x.shape[2:], strict=True))
        ]
        y = F.conv_transpose2d(
            x.flatten(0, 1)[None],
            weight.flatten(0, 1),
            stride=conv.stride,
            padding=conv.padding,
            output_padding=rest,
            groups=batch * conv.groups,
            dilation=conv.dilation,
        )
        x = y.view(batch, -1, *size)
    return x


def _dilate(weight: Tensor, dilation: Pair) -> Tensor:
    """Set the entries of every kernel apart."""
    if dilation == (1, 1):
        return weight
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[-2:], strict=True)]
    kernel = weight.new_zeros(*weight.shape[:-2], *spans)
    kernel[..., :: dilation[0], :: dilation[1]] = weight
    return kernel


def _unit_vectors(n: int) -> Tensor:
    """Give n signals of length n with a single 1 each: a map of them is its matrix."""
    return torch.eye(n, dtype=torch.float64)[:, None]
