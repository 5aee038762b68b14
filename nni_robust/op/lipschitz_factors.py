"""The factors of an operation's Lipschitz constant.

An operation is a row of layers. Convolutions without an activation between them are one linear map,
whose norm is one factor; pooling is a number; ReLU, dropout and the identity count as 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn

from nni_robust.functional.convolution_norm import Convolution, Pair
from nni_robust.functional.pooling_norm import (
    average_pool_norm,
    max_pool_norm,
    paper_average_pool_norm,
)
from nni_robust.op.layer_sequence import (
    BATCH_NORMS,
    POOLS,
    WEIGHTED,
    BatchNorm,
    UnknownOperation,
    is_exactly,
    is_factorized_reduce,
    is_identity,
    is_zero,
    layer_sequence,
)

PoolingNorm = Literal["paper", "operator"]


@dataclass(eq=False)
class LinearLayer:
    """A convolution and the batch norms that follow it; ``nn.Linear`` is a 1x1 convolution.

    Parameters
    ----------
    module
        The module that holds the weight.
    convolution
        How the weight is applied.
    norms
        Batch norms of the output.
    channels
        The channels of the batch norms that the output occupies.
    """

    module: nn.Conv2d | nn.Linear
    convolution: Convolution
    norms: list[BatchNorm] = field(default_factory=list)
    channels: slice = field(default_factory=lambda: slice(None))

    def weight(self) -> Tensor:
        """Return the present weight, shape (out, in / groups, kh, kw)."""
        weight = self.module.weight
        return weight if weight.dim() == 4 else weight[:, :, None, None]

    def folded_weight(self) -> Tensor:
        """Return the present weight times the scales of the batch norms, same shape."""
        weight = self.weight()
        for norm in self.norms:
            weight = weight * batch_norm_scale(norm)[self.channels, None, None, None]
        return weight


@dataclass(eq=False)
class Chain:
    """Layers without an activation between them: one linear map.

    Parameters
    ----------
    size
        (H, W) of the first layer's input.
    layers
        At least one.
    """

    size: Pair
    layers: list[LinearLayer]


@dataclass(eq=False)
class ParallelChains:
    """Chains that read different pixels and write different channels: the largest norm counts."""

    chains: list[Chain]


@dataclass(eq=False)
class BatchNormFactor:
    """A batch norm that follows no convolution: its largest scale, if batch norms count."""

    norm: BatchNorm


@dataclass(eq=False)
class ConstantFactor:
    """A number that does not depend on weights."""

    value: float


Factor = ParallelChains | BatchNormFactor | ConstantFactor


def batch_norm_scale(norm: BatchNorm) -> Tensor:
    """Return the factors by which a batch norm multiplies its channels at evaluation, shape (C,).

    Parameters
    ----------
    norm
        A batch norm with running statistics.

    Examples
    --------
    >>> batch_norm_scale(nn.BatchNorm2d(2, eps=0.0))
    tensor([1., 1.], grad_fn=<MulBackward0>)
    """
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    return scale if norm.weight is None else scale * norm.weight


def lipschitz_factors(
    module: nn.Module, size: Pair, *, pooling: PoolingNorm = "paper"
) -> list[Factor]:
    """Return the factors of an operation's Lipschitz constant.

    Parameters
    ----------
    module
        The operation; see :func:`nni_robust.op.layer_sequence.layer_sequence`.
    size
        (H, W) of its input; (1, 1) for vectors.
    pooling
        Constants of pooling: ``paper``, those of [RACL]; ``operator``, the true ones.

    Returns
    -------
    list of Factor
        They refer to the layers of the module.

    Raises
    ------
    UnknownOperation
        If the constant of a layer is not known, or the module is not a row of layers.

    Notes
    -----
    [RACL] Sec. 2.2.

    Examples
    --------
    >>> lipschitz_factors(nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1, 1)), (8, 8))
    [ConstantFactor(value=1.0)]
    """
    factors: list[Factor] = []
    chain: Chain | None = None  # the last factor, while layers may join it
    for layer in layer_sequence(module):
        if is_zero(layer):
            return [ConstantFactor(0.0)]
        if is_exactly(layer, *WEIGHTED):
            if chain is None:
                chain = Chain(size, [])
                factors.append(ParallelChains([chain]))
            chain.layers.append(_linear_layer(layer, size))
        elif is_exactly(layer, *BATCH_NORMS):
            if chain is None:
                factors.append(BatchNormFactor(cast(BatchNorm, layer)))
            else:
                chain.layers[-1].norms.append(cast(BatchNorm, layer))
        elif not is_identity(layer):
            chain = None
            factors.extend(_nonlinear_factors(layer, size, pooling))
        size = _output_size(layer, size)
    return factors


def _linear_layer(module: nn.Module, size: Pair) -> LinearLayer:
    if isinstance(module, nn.Linear):
        if size != (1, 1):
            raise UnknownOperation(f"Linear reads vectors, but its input is a map of size {size}.")
        return LinearLayer(module, Convolution())
    assert isinstance(module, nn.Conv2d)
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise UnknownOperation(
            f"Conv2d must have a zero border given in numbers, not padding={module.padding!r} "
            f"with padding_mode={module.padding_mode!r}."
        )
    convolution = Convolution(
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
    )
    return LinearLayer(module, convolution)


def _nonlinear_factors(layer: nn.Module, size: Pair, pooling: PoolingNorm) -> list[Factor]:
    """Return the factors of a layer that is not a convolution; an activation has none."""
    if is_factorized_reduce(layer):
        return [_factorized_reduce(layer, size)]
    if not isinstance(layer, POOLS):
        return []
    if getattr(layer, "return_indices", False) or getattr(layer, "divisor_override", None):
        raise UnknownOperation(f"{layer} does not return plain averages or maxima.")
    window = [_pair(n) for n in (layer.kernel_size, layer.stride, layer.padding)]
    if isinstance(layer, nn.MaxPool2d):
        dilation, ceil = _pair(layer.dilation), layer.ceil_mode
        true = max_pool_norm(size, *window, dilation=dilation, ceil_mode=ceil)
        return [ConstantFactor(1.0 if pooling == "paper" else true)]
    if pooling == "paper":
        return [ConstantFactor(paper_average_pool_norm(_pair(layer.stride)))]
    true = average_pool_norm(
        size, *window, ceil_mode=layer.ceil_mode, count_include_pad=layer.count_include_pad
    )
    return [ConstantFactor(true)]


def _factorized_reduce(module: nn.Module, size: Pair) -> ParallelChains:
    """Return its two 1x1 convolutions: one reads even pixels, one odd; each has half the output."""
    layers = [_linear_layer(m, size) for m in module.modules() if isinstance(m, nn.Conv2d)]
    forms = [(tuple(x.weight().shape[2:]), x.convolution.stride) for x in layers]
    if forms != [((1, 1), (2, 2))] * 2:
        raise UnknownOperation(
            f"{type(module).__name__} must have two 1x1 convolutions of stride 2, got {forms}."
        )
    norms = [m for m in module.modules() if isinstance(m, BATCH_NORMS)]
    half = layers[0].weight().shape[0]
    for layer, channels in zip(layers, (slice(half), slice(half, None)), strict=True):
        layer.norms, layer.channels = norms, channels
    return ParallelChains([Chain(size, [layer]) for layer in layers])


def _output_size(layer: nn.Module, size: Pair) -> Pair:
    if isinstance(layer, nn.Conv2d):
        convolution = _linear_layer(layer, size).convolution
        return convolution.output_size(size, _pair(layer.kernel_size))
    if isinstance(layer, POOLS):
        _, height, width = layer(torch.zeros(1, *size)).shape
        return height, width
    if is_factorized_reduce(layer):
        return (size[0] + 1) // 2, (size[1] + 1) // 2
    return size


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
