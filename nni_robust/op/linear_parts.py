"""Operations taken apart into what their Lipschitz constants are made of.

An operation is a row of layers. Convolutions without an activation between them are one linear map,
a pooling is a number; ReLU, dropout and the identity count as 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nni_robust.functional.lipschitz import (
    Convolution,
    Pair,
    average_pool_norm,
    max_pool_norm,
    paper_average_pool_norm,
)

PoolingMethod = Literal["paper", "operator"]
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm

_WEIGHTED = (nn.Conv2d, nn.Linear)
_BATCH_NORMS = get_args(Norm)
_POOLS = (nn.AvgPool2d, nn.MaxPool2d)
_ACTIVATIONS = (nn.ReLU, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Softplus)  # of slope at most 1
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # at evaluation
# Every library writes these anew: they are known by the names of their classes.
_ZERO, _FACTORIZED_REDUCE, _DROP_PATH = "Zero", "FactorizedReduce", "DropPath"


class UnknownOperation(ValueError):  # noqa: N818  # it is no error where it is only reported
    """An operation has no constant that is known; the message says what stands in the way."""


@dataclass(eq=False)
class Layer:
    """A convolution and the batch norms that follow it; a linear layer is a 1x1 convolution.

    Attributes
    ----------
    module
        Holds the weight.
    convolution
        How the weight is applied.
    norms
        Batch norms of the output.
    channels
        Where the output lies among the channels of the batch norms.
    """

    module: nn.Conv2d | nn.Linear
    convolution: Convolution
    norms: list[Norm] = field(default_factory=list)
    channels: slice = field(default_factory=lambda: slice(None))

    def weight(self) -> Tensor:
        """Give the weight as it is now, shape (out, in / groups, kh, kw)."""
        weight = self.module.weight
        return weight if weight.dim() == 4 else weight[:, :, None, None]

    def folded_weight(self) -> Tensor:
        """Give the weight times the scales of the batch norms."""
        weight = self.weight()
        for norm in self.norms:
            weight = weight * batch_norm_scale(norm)[self.channels, None, None, None]
        return weight


@dataclass(eq=False)
class Chain:
    """Layers without an activation between them: one linear map.

    Attributes
    ----------
    size
        (H, W) of what the first layer reads.
    layers
        At least one.
    """

    size: Pair
    layers: list[Layer]


@dataclass(eq=False)
class Chains:
    """Chains that read different pixels and write different channels: the largest norm counts."""

    chains: list[Chain]


@dataclass(eq=False)
class Scale:
    """A batch norm that follows no convolution; where batch norms count, its largest factor."""

    norm: Norm


@dataclass(eq=False)
class Constant:
    """A factor that no training moves."""

    value: float


Part = Chains | Scale | Constant


def batch_norm_scale(norm: Norm) -> Tensor:
    """Give the factors by which a batch norm multiplies its channels at evaluation, shape (C,).

    Parameters
    ----------
    norm
        With running statistics.
    """
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    return scale if norm.weight is None else scale * norm.weight


def is_zero(module: nn.Module) -> bool:
    """Tell whether a module gives zeros whatever it reads.

    Examples
    --------
    >>> from nni_robust.op import OPS
    >>> [name for name, build in OPS.items() if is_zero(build(4, 1))]
    ['none']
    """
    if _is_a(module, nn.Sequential):
        layers = list(module.children())
        return any(map(is_zero, layers)) and all(is_zero(m) or _passes(m) for m in layers)
    return type(module).__name__ == _ZERO


def anatomy(module: nn.Module, size: Pair, *, pooling: PoolingMethod = "paper") -> list[Part]:
    """Take an operation apart into the factors of its Lipschitz constant.

    Parameters
    ----------
    module
        The operation: layers in a row, in a Sequential or in a ``forward`` that does nothing else.
        Classes named Zero, FactorizedReduce and DropPath are taken for what the name says.
    size
        (H, W) of what it reads; (1, 1) for vectors.
    pooling
        Constants of poolings: ``paper``, those of [RACL]; ``operator``, their true ones.

    Returns
    -------
    list of Part
        They refer to the layers of the module.

    Raises
    ------
    UnknownOperation
        If the constant of a layer is not known, or the module is no row of layers.
    """
    parts: list[Part] = []
    chain: Chain | None = None  # in the last part, while layers may join it
    for leaf in _leaves(module):
        if is_zero(leaf):
            return [Constant(0.0)]
        if _is_a(leaf, *_WEIGHTED):
            if chain is None:
                chain = Chain(size, [])
                parts.append(Chains([chain]))
            chain.layers.append(_layer(leaf, size))
        elif _is_a(leaf, *_BATCH_NORMS):
            if chain is None:
                parts.append(Scale(cast(Norm, leaf)))
            else:
                chain.layers[-1].norms.append(cast(Norm, leaf))
        elif not _passes(leaf):
            chain = None
            parts.extend(_between_chains(leaf, size, pooling))
        size = _output_size(leaf, size)
    return parts


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Give the layers of a module in the order in which they are applied."""
    if (
        is_zero(module)
        or _passes(module)
        or type(module).__name__ == _FACTORIZED_REDUCE
        or _is_a(module, *_WEIGHTED, *_BATCH_NORMS, *_POOLS, *_ACTIVATIONS)
    ):
        yield module
        return
    for child in module.children() if _is_a(module, nn.Sequential) else _traced(module):
        yield from _leaves(child)


class _OneLevel(fx.Tracer):
    """Records which submodules a ``forward`` applies, without a look into them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(module: nn.Module) -> list[nn.Module]:
    """Give the submodules that a module applies one after the other, if it does nothing else."""
    name = type(module).__name__
    if not list(module.children()):
        raise UnknownOperation(f"the constant of {name} is not known.")
    try:
        graph = _OneLevel().trace(module)
    except Exception as error:  # code of others fails in ways of its own
        raise UnknownOperation(f"{name} cannot be traced as a row of layers ({error}).") from error
    row: list[nn.Module] = []
    previous, *nodes = graph.nodes
    for node in nodes:
        reads_previous = node.args[:1] == (previous,)
        if node.op == "call_module" and reads_previous and len(node.all_input_nodes) == 1:
            row.append(module.get_submodule(str(node.target)))
        elif node.target in (torch.relu, F.relu) and reads_previous:
            row.append(nn.ReLU())
        elif node.op != "output" or not reads_previous:
            raise UnknownOperation(f"{name} is no row of layers: it has a step {node.name!r}.")
        previous = node
    return row


def _layer(module: nn.Module, size: Pair) -> Layer:
    if isinstance(module, nn.Linear):
        if size != (1, 1):
            raise UnknownOperation(f"Linear reads vectors, but gets a map of size {size}.")
        return Layer(module, Convolution())
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
    return Layer(module, convolution)


def _between_chains(leaf: nn.Module, size: Pair, pooling: PoolingMethod) -> list[Part]:
    """Give the factors of a layer that is no convolution; an activation has none."""
    if type(leaf).__name__ == _FACTORIZED_REDUCE:
        return [_factorized_reduce(leaf, size)]
    if not isinstance(leaf, _POOLS):
        return []
    if getattr(leaf, "return_indices", False) or getattr(leaf, "divisor_override", None):
        raise UnknownOperation(f"{leaf} does not give plain averages or maxima.")
    window = [_pair(n) for n in (leaf.kernel_size, leaf.stride, leaf.padding)]
    if isinstance(leaf, nn.MaxPool2d):
        dilation, ceil = _pair(leaf.dilation), leaf.ceil_mode
        true = max_pool_norm(size, *window, dilation=dilation, ceil_mode=ceil)
        return [Constant(1.0 if pooling == "paper" else true)]
    if pooling == "paper":
        return [Constant(paper_average_pool_norm(_pair(leaf.stride)))]
    true = average_pool_norm(
        size, *window, ceil_mode=leaf.ceil_mode, count_include_pad=leaf.count_include_pad
    )
    return [Constant(true)]


def _factorized_reduce(module: nn.Module, size: Pair) -> Chains:
    """Give its 1x1 convolutions: one reads even pixels, one odd; each gives half the channels."""
    layers = [_layer(m, size) for m in module.modules() if isinstance(m, nn.Conv2d)]
    forms = [(tuple(x.weight().shape[2:]), x.convolution.stride) for x in layers]
    if forms != [((1, 1), (2, 2))] * 2:
        raise UnknownOperation(
            f"{type(module).__name__} must have two 1x1 convolutions of stride 2, and has {forms}."
        )
    norms = [m for m in module.modules() if isinstance(m, _BATCH_NORMS)]
    half = layers[0].weight().shape[0]
    for layer, channels in zip(layers, (slice(half), slice(half, None)), strict=True):
        layer.norms, layer.channels = norms, channels
    return Chains([Chain(size, [layer]) for layer in layers])


def _output_size(leaf: nn.Module, size: Pair) -> Pair:
    if isinstance(leaf, nn.Conv2d):
        layer = _layer(leaf, size)
        return layer.convolution.output_size(size, _pair(leaf.kernel_size))
    if isinstance(leaf, _POOLS):
        _, height, width = leaf(torch.zeros(1, *size)).shape
        return height, width
    if type(leaf).__name__ == _FACTORIZED_REDUCE:
        return (size[0] + 1) // 2, (size[1] + 1) // 2
    return size


def _is_a(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Tell whether a module is of a kind and computes what that computes."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _passes(module: nn.Module) -> bool:
    return _is_a(module, *_PASSING) or type(module).__name__ == _DROP_PATH


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
