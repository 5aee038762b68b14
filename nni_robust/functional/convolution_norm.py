r"""Norms of convolutions: Lipschitz constants in the :math:`l_2` norm.

There are three. `operator_norm` is the norm of the map itself, with its zero border and its stride,
for one convolution or several in a row. `circular_norm` is an upper bound in closed form.
`reshaped_norm` is the norm of the weight written as a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """How a kernel moves over an image, as in `torch.nn.Conv2d`; the border is zero.

    Parameters
    ----------
    stride, padding, dilation
        Values in height and width.
    groups
        Number of blocks of channels.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def output_size(self, size: Pair, kernel_size: Pair) -> Pair:
        """Return height and width of the output.

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
    r"""Return the norm of several convolutions in a row, as one linear map A, by power iteration.

    .. math::

        u = A v / \|A v\|, \qquad \sigma = \|A^T u\| \le \|A\|, \qquad v \leftarrow A^T u / \sigma.

    B maps of the same shape are measured together. A and its transpose are applied to feature maps
    of the real size, with the real stride, dilation and zero border.

    Parameters
    ----------
    weights
        One weight per convolution, shape ``(B, out, in / groups, kh, kw)``.
    convolutions
        How each weight is applied.
    vectors
        Where the iteration starts, shape ``(B, C, H, W)``, of any length except 0: random vectors,
        or those where an earlier call ended.
    iterations
        Number of steps, at least 1.

    Returns
    -------
    norms
        Estimates of the norms, shape ``(B,)``, never above them; 0 if the map is 0.
    vectors
        Where the iteration ended, shape ``(B, C, H, W)``, of length 1.

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
            f"weights and convolutions must be pairs, at least one, got {len(weights)} weights "
            f"and {len(convolutions)} convolutions."
        )
    v, _ = _unit(vectors)
    norms = v.new_zeros(len(v))
    for _ in range(iterations):
        u, sizes = _apply(weights, convolutions, v)
        w, norms = _unit(_apply_transposed(weights, convolutions, _unit(u)[0], sizes))
        # A map that is 0 would end the iteration for good: keep the last vector.
        v = torch.where((norms > 0).view(-1, 1, 1, 1), w, v)
    return norms, v


def circular_norm(weight: Tensor, convolution: Convolution, size: Pair) -> Tensor:
    r"""Return an upper bound of the norm of a convolution: the norm of a circular one.

    .. math:: \max_f \sigma_{\max} \bigl(\hat{k}(f)\bigr)

    over the frequencies f of a torus. The torus is so large that no kernel wraps round onto the
    image, so the convolution with zero border is a part of the circular one. A stride only removes
    outputs. For 1x1 kernels the bound is the norm itself.

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
        Upper bounds, shape ``(B,)``.

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
    """Return the norm of a weight written as the matrix (out, in / groups * kh * kw).

    For kernels larger than 1x1 this is neither the norm of the convolution nor a bound on it.

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

    Examples
    --------
    >>> reshaped_norm(torch.ones(1, 1, 1, 3, 3))
    tensor([3.0000])
    """
    norms: Tensor = torch.linalg.matrix_norm(weight.flatten(2), ord=2)
    return norms


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale every map to length 1, and return the lengths; a map that is 0 stays 0."""
    lengths = torch.linalg.vector_norm(x, dim=(1, 2, 3))
    tiny = torch.finfo(x.dtype).tiny
    return x / lengths.clamp_min(tiny).view(-1, 1, 1, 1), lengths


def _apply(
    weights: Sequence[Tensor], convolutions: Sequence[Convolution], x: Tensor
) -> tuple[Tensor, list[Pair]]:
    """Apply B rows of convolutions to one image each; return also the size of every input."""
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
    """Apply the transpose of `_apply`; the sizes restore what the strides rounded away."""
    batch = len(x)
    for weight, conv, size in zip(
        reversed(weights), reversed(convolutions), reversed(sizes), strict=True
    ):
        output_padding = [
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
            output_padding=output_padding,
            groups=batch * conv.groups,
            dilation=conv.dilation,
        )
        x = y.view(batch, -1, *size)
    return x


def _dilate(weight: Tensor, dilation: Pair) -> Tensor:
    """Return the kernels with zeros between their entries."""
    if dilation == (1, 1):
        return weight
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[-2:], strict=True)]
    kernel = weight.new_zeros(*weight.shape[:-2], *spans)
    kernel[..., :: dilation[0], :: dilation[1]] = weight
    return kernel
