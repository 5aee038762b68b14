"""Feature denoising (Xie et al., 2019)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from nni_robust.model.block import conv


class GaussianMean(nn.Module):
    r"""Replace the features of every position by a mean over all positions, similar ones first.

    .. math::

        y_i = \sum_j w_{ij} x_j,
        \qquad w_{i\cdot} = \operatorname{softmax}_j
        \bigl(\theta(x_i)^\top \phi(x_j) / \sqrt{d}\bigr),

    where :math:`\theta` and :math:`\phi` are 1x1 convolutions to d channels, half of the input's.

    Parameters
    ----------
    channels
        Channels of input and output, at least 2.

    Notes
    -----
    The "non-local, embedded Gaussian" of the paper. Time and memory grow with the square of
    the number of positions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(
                f"channels must be at least 2, since half of them are compared, got {channels!r}."
            )
        self.theta = conv(channels, channels // 2, 1)
        self.phi = conv(channels, channels // 2, 1)
        for embedding in (self.theta, self.phi):
            nn.init.normal_(embedding.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        query, key, value = (
            features.flatten(2).mT.unsqueeze(1)  # (N, 1, H W, channels): one head
            for features in (self.theta(x), self.phi(x), x)
        )
        mean = functional.scaled_dot_product_attention(query, key, value)
        return mean.squeeze(1).mT.reshape(x.shape)


class DotProductMean(nn.Module):
    r"""Replace the features of every position by a sum over all, weighted by inner products.

    .. math::

        y_i = \frac{1}{H W} \sum_j (x_i^\top x_j) \, x_j.

    Parameters
    ----------
    channels
        Channels of input and output; unused, since this mean has no weights.

    Notes
    -----
    The "non-local, dot product" of the paper, without embedding. The sum is taken as
    :math:`(X X^\top) X`, whose cost is linear in the number of positions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        features = x.flatten(2)  # (N, C, H W)
        gram = features @ features.mT / features.shape[2]  # (N, C, C)
        return (gram @ features).reshape(x.shape)


_MEANS: dict[str, type[GaussianMean] | type[DotProductMean]] = {
    "gaussian": GaussianMean,
    "dot_product": DotProductMean,
}


class DenoisingBlock(nn.Module):
    """Add a non-local mean of the features, after a 1x1 convolution and batch norm, to them.

    The weight of its batch norm starts at 0, so the block starts as the identity, and a trained
    network may receive it without harm.

    Parameters
    ----------
    channels
        Channels of input and output.
    mean
        ``gaussian`` has ``2 * channels**2 + 2 * channels`` parameters, ``dot_product`` has
        ``channels**2 + 2 * channels``.

    Examples
    --------
    >>> sum(p.numel() for p in DenoisingBlock(144).parameters())
    41760
    """

    def __init__(
        self, channels: int, *, mean: Literal["gaussian", "dot_product"] = "gaussian"
    ) -> None:
        super().__init__()
        if mean not in _MEANS:
            raise ValueError(f"mean must be one of {list(_MEANS)}, got {mean!r}.")
        self.mean = _MEANS[mean](channels)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.projection = nn.Sequential(conv(channels, channels, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        total: Tensor = x + self.projection(self.mean(x))
        return total
