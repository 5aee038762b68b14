"""The layers of an operation, in the order in which it applies them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import torch
from torch import fx, nn
from torch.nn import functional as F

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm

WEIGHTED = (nn.Conv2d, nn.Linear)
BATCH_NORMS = get_args(BatchNorm)
POOLS = (nn.AvgPool2d, nn.MaxPool2d)
_ACTIVATIONS = (nn.ReLU, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Softplus)  # of slope at most 1
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)  # at evaluation
# Every library defines these classes again, so they are recognised by name.
_ZERO, _FACTORIZED_REDUCE, _DROP_PATH = "Zero", "FactorizedReduce", "DropPath"


class UnknownOperation(ValueError):  # noqa: N818  # not an error where it is only reported
    """The Lipschitz constant of an operation is not known; the message says why."""


def layer_sequence(module: nn.Module) -> Iterator[nn.Module]:
    """Return the layers of an operation in the order in which it applies them.

    Parameters
    ----------
    module
        Layers in a row: a Sequential, or a module whose ``forward`` does nothing else. Modules of
        classes named Zero, FactorizedReduce and DropPath count as one layer.

    Raises
    ------
    UnknownOperation
        If the module is not a row of known layers.

    Examples
    --------
    >>> from nni_robust.op import ReLUConvBN
    >>> [type(layer).__name__ for layer in layer_sequence(ReLUConvBN(4, 8))]
    ['ReLU', 'Conv2d', 'BatchNorm2d']
    """
    if (
        is_zero(module)
        or is_identity(module)
        or is_factorized_reduce(module)
        or is_exactly(module, *WEIGHTED, *BATCH_NORMS, *POOLS, *_ACTIVATIONS)
    ):
        yield module
        return
    for child in module.children() if is_exactly(module, nn.Sequential) else _traced(module):
        yield from layer_sequence(child)


def is_zero(module: nn.Module) -> bool:
    """Return whether a module returns zeros for every input.

    Examples
    --------
    >>> from nni_robust.op import OPS
    >>> [name for name, build in OPS.items() if is_zero(build(4, 1))]
    ['none']
    """
    if is_exactly(module, nn.Sequential):
        layers = list(module.children())
        return any(map(is_zero, layers)) and all(is_zero(m) or is_identity(m) for m in layers)
    return type(module).__name__ == _ZERO


def is_identity(module: nn.Module) -> bool:
    """Return whether a module is the identity at evaluation."""
    return is_exactly(module, *_IDENTITIES) or type(module).__name__ == _DROP_PATH


def is_factorized_reduce(module: nn.Module) -> bool:
    """Return whether a module is the strided identity of DARTS, by the name of its class."""
    return type(module).__name__ == _FACTORIZED_REDUCE


def is_exactly(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Return whether a module is of one of the kinds and keeps the ``forward`` of that kind."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


class _OneLevelTracer(fx.Tracer):
    """Records which submodules a ``forward`` applies, without tracing into them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(module: nn.Module) -> list[nn.Module]:
    """Return the submodules that a module applies in a row, if it does nothing else."""
    name = type(module).__name__
    if not list(module.children()):
        raise UnknownOperation(f"the constant of {name} is not known.")
    try:
        graph = _OneLevelTracer().trace(module)
    except Exception as error:  # foreign code raises anything
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
            raise UnknownOperation(f"{name} is not a row of layers: it has a step {node.name!r}.")
        previous = node
    return row
