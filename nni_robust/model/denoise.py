"""Feature denoising (Xie et al., 2019)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from nni_robust.check import SettingError, check_choice
from nni_robust.model.block import conv


class GaussianMean(nn.Module):
    r"""Replace the features at each position by a mean of all, weighted by similarity.

    .. math::

        y_i = \sum_j w_{ij} x_j,
        \qquad w_{i\cdot} = \operatorname{softmax}_j
        \bigl(\theta(x_i)^\top \phi(x_j) / \sqrt{d}\bigr),

    where :math:`\theta` and :math:`\phi` are 1x1 convolutions to d channels, half of those of the
    input.

    Parameters
    ----------
    channels
        Channels of input and output, at least 2.

    Notes
    -----
    This is "non-local, embedded Gaussian" in the paper. Time and memory grow with the square of the
    number of positions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2:
            raise SettingError(
                f"must be at least 2, because half of them are compared, got {channels!r}.",
                "channels",
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
    r"""Replace the features at each position by a mean of all, weighted by inner products.

    .. math::

        y_i = \frac{1}{H W} \sum_j (x_i^\top x_j) \, x_j.

    Parameters
    ----------
    channels
        Channels of input and output. Unused, because this mean has no weights.

    Notes
    -----
    This is "non-local, dot product" in the paper, without embedding. The sum is computed as
    :math:`(X X^\top) X`, so its cost is linear in the number of positions.
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
    """Add a non-local mean of the features, through a 1x1 convolution and batch norm.

    The weight of the batch norm starts at 0. So the block starts as the identity, and adding it
    does not change the output of a trained network.

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
        check_choice("mean", mean, list(_MEANS))
        self.mean = _MEANS[mean](channels)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.projection = nn.Sequential(conv(channels, channels, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        total: Tensor = x + self.projection(self.mean(x))
        return total
