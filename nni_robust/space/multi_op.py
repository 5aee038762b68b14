"""An edge that carries any subset of its candidate operations."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from nni.mutable import CategoricalMultiple, ensure_frozen
from nni.nas.nn.pytorch import MutableModule
from torch import Tensor, nn

from nni_robust.op import Zero


class MultiOp(nn.Module):
    """The sum of several operations on one input; zeros if there is no operation.

    Parameters
    ----------
    operations
        Operations by name, with outputs of the same shape.
    channels, stride
        Channels of the zeros, and the divisor of their resolution.

    Attributes
    ----------
    active
        Names of the operations that run.
    """

    def __init__(self, operations: Mapping[str, nn.Module], channels: int, stride: int) -> None:
        super().__init__()
        for name, module in operations.items():
            self.add_module(name, module)
        self.active = tuple(operations)
        self.zero = Zero(channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the sum of the operations' outputs."""
        return _sum_of(self, x)


class MultiOpEdge(MutableModule):  # type: ignore[misc]  # NNI is untyped
    r"""An edge whose value is any subset of its operations.

    .. math:: o(x) = \sum_k \alpha_k o_k(x), \qquad \alpha_k \in \{0, 1\}

    The choice is one mutable. Its value is the list of the operations that are present, in the
    order of ``operations``; with an empty list the output is zero. Freezing returns a
    :class:`MultiOp` with copies of the weights.

    Parameters
    ----------
    operations
        Candidate operations by name; all must map (N, C, H, W) to the same shape.
    channels, stride
        Channels of the zeros for an empty subset, and the divisor of their resolution.
    label
        Label of the mutable, without a slash. Edges with the same label have the same operations.
    default
        Operations that run until the edge is frozen; by default all.

    Attributes
    ----------
    active
        Names of the operations that run in a forward pass.

    Notes
    -----
    [RobNets] Eq. 1. The cell computes the sum over edges.
    """

    def __init__(
        self,
        operations: Mapping[str, nn.Module],
        *,
        channels: int,
        stride: int = 1,
        label: str,
        default: Iterable[str] | None = None,
    ) -> None:
        super().__init__()
        for name, module in operations.items():
            self.add_module(name, module)
        self.names = tuple(operations)
        self.channels = channels
        self.stride = stride
        self.zero = Zero(channels, stride)
        self.choice = self.add_mutable(_choice(operations, label, default))
        self.active: tuple[str, ...] = tuple(ensure_frozen(self.choice))

    @property
    def label(self) -> str:
        """Full label of the mutable, including scopes."""
        return str(self.choice.label)

    def operations(self) -> dict[str, nn.Module]:
        """Return the candidate operations by name."""
        return {name: self.get_submodule(name) for name in self.names}

    @classmethod
    def create_fixed_module(
        cls,
        sample: dict[str, Any],
        operations: Mapping[str, nn.Module],
        *,
        channels: int,
        stride: int = 1,
        label: str,
        default: Iterable[str] | None = None,
    ) -> MultiOp:
        """Build the frozen edge directly; NNI calls this inside ``model_context(sample)``."""
        chosen = _choice(operations, label, default).freeze(sample)
        kept = {name: operations[name] for name in operations if name in chosen}
        return MultiOp(kept, channels, stride)

    def freeze(self, sample: dict[str, Any]) -> MultiOp:
        """Return the frozen edge, with copies of the operations that are present."""
        chosen = self.choice.freeze(sample)
        kept = {n: copy.deepcopy(module) for n, module in self.operations().items() if n in chosen}
        return MultiOp(kept, self.channels, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Run the default operations: a dry run, as in NNI's own choices."""
        return _sum_of(self, x)


def _choice(
    operations: Mapping[str, nn.Module], label: str, default: Iterable[str] | None
) -> CategoricalMultiple:
    names = list(operations)
    shown = names if default is None else [name for name in names if name in set(default)]
    return SubsetChoice(names, default=shown, label=label)


class SubsetChoice(CategoricalMultiple):  # type: ignore[misc]
    """Any subset of the values; each value is present with probability one half.

    This is NNI's own class plus the description that NNI's tuners (TPE and others) need.
    """

    def as_legacy_dict(self) -> dict[str, Any]:
        """Return the form for NNI's tuners: a choice among lists."""
        sizes = range(len(self.values) + 1)
        subsets = itertools.chain.from_iterable(
            itertools.combinations(self.values, size) for size in sizes
        )
        return {"_type": "choice", "_value": [list(subset) for subset in subsets]}


def subset_name(subset: Iterable[str]) -> str:
    """Return a subset of operations as one word, such as ``conv+identity`` or ``none``.

    Examples
    --------
    >>> subset_name(["conv", "identity"]), subset_name([])
    ('conv+identity', 'none')
    """
    return "+".join(subset) or "none"


def _sum_of(module: MultiOp | MultiOpEdge, x: Tensor) -> Tensor:
    total: Tensor | None = None
    for name in module.active:
        y: Tensor = getattr(module, name)(x)
        total = y if total is None else total + y
    return module.zero(x) if total is None else total
