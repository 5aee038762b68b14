"""The bound of a network's Lipschitz constant, put together from its choices."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nni_robust.functional.lognormal import lipschitz_log_normal
from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.mixture import JoinsChoices
from nni_robust.oneshot.node import MixedEdge, MixedNode
from nni_robust.op.lipschitz import LipschitzConstants

_logger = logging.getLogger(__name__)

_FIRST_ITERATIONS = 20  # of the power iteration; warm-started refreshes take _ITERATIONS
_ITERATIONS = 2


@dataclass(frozen=True, kw_only=True)
class BoundOptions:
    """How the bound is taken.

    Attributes
    ----------
    lipschitz
        Constant of a convolution: ``operator``, the norm of each linear part of the operation, as
        it is applied; ``layers``, the product over its layers; ``reshaped``, the norm of the
        weights as matrices.
    fold_batch_norm
        Whether the scale of batch norms counts; the paper leaves it out.
    pooling
        Constants of poolings: those of the ``paper``, or true norms, ``operator``.
    constants
        Constants by the name of a candidate, for operations that cannot be measured.
    eq12
        ``corrected``, or as ``printed`` in the paper.
    cell_correlation
        ``independent`` cells, as the paper assumes, or ``shared`` draws, as they are.
    """

    lipschitz: Literal["operator", "layers", "reshaped"] = "operator"
    fold_batch_norm: bool = False
    pooling: Literal["paper", "operator"] = "paper"
    constants: Mapping[str, float] = field(default_factory=dict)
    eq12: Literal["corrected", "printed"] = "corrected"
    cell_correlation: Literal["independent", "shared"] = "independent"

    def __post_init__(self) -> None:
        allowed = {
            "lipschitz": ("operator", "layers", "reshaped"),
            "pooling": ("paper", "operator"),
            "eq12": ("corrected", "printed"),
            "cell_correlation": ("independent", "shared"),
        }
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {words}, got {getattr(self, name)!r}.")
        for name, value in self.constants.items():
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"constants[{name!r}] must not be negative, got {value!r}.")


class LipschitzBound:
    r"""The log-normal that bounds the Lipschitz constant of a supernet.

    .. math:: \lambda_F = \prod_{k, j} \sum_i \beta^{(i, j)} \sum_o \alpha_o^{(i, j)} \lambda_o

    over the nodes j of all cells k.

    Parameters
    ----------
    nodes
        Of a network that has run, so that the sizes of its feature maps are known.
    rows
        From a label to its row in the table of weights.
    options
        How the bound is taken.
    required
        Whether a network of which nothing can be measured is refused, or has the bound 1.

    Attributes
    ----------
    nodes
        As given.
    unknown
        From the name of a candidate to why it cannot be measured; it is left out of the bound.

    Raises
    ------
    ValueError
        If ``constants`` names no operation, or no operation at all can be measured.
    """

    def __init__(
        self,
        nodes: Sequence[MixedNode],
        rows: Mapping[str, int],
        options: BoundOptions = BoundOptions(),  # an immutable value
        *,
        required: bool = True,
    ) -> None:
        self.options = options
        self.nodes = list(nodes)
        self._edges = [edge for node in nodes for edge in node.edges]
        self._places = [
            (number, column, name)
            for number, edge in enumerate(self._edges)
            for column, name in enumerate(edge.operations)
        ]
        names = sorted({name for _, _, name in self._places})
        for name in options.constants:
            if name not in names:
                raise ValueError(f"constants must be of {names}, got {name!r}.")
        self.constants = self._measure(self._edges)
        plain = len(rows)  # the row of weights that are all 1
        self._alpha = torch.tensor(
            [plain if edge.label is None else rows[edge.label] for edge in self._edges]
        )
        self._beta = torch.tensor([plain if n.label is None else rows[n.label] for n in nodes])
        self._incoming = _table_of_edges(nodes)
        kinds = {_kind(node): None for node in nodes}
        numbers = {kind: number for number, kind in enumerate(kinds)}
        self._types = torch.tensor([numbers[_kind(node)] for node in nodes])
        self._log_lipschitz: Tensor | None = None
        self.unknown = {
            self._places[int(key)][2]: reason for key, reason in self.constants.unknown.items()
        }
        if required and len(self.constants.unknown) == len(self._places):
            raise ValueError(
                f"the space must have an operation whose Lipschitz constant can be measured, but "
                f"of {sorted(self.unknown)} none can: {next(iter(self.unknown.values()))} Give "
                "them in `constants`."
            )
        for name, reason in self.unknown.items():
            _logger.warning(
                "The operation %r is left out of the bound, since %s Give its Lipschitz constant "
                "in `constants`.",
                name,
                reason,
            )

    @property
    def measured(self) -> bool:
        """Whether the constants were measured at least once."""
        return self._log_lipschitz is not None

    def refresh(self) -> None:
        """Measure the constants of all operations with the weights that they have now."""
        values = self.constants.update(_ITERATIONS if self.measured else _FIRST_ITERATIONS)
        width = max(column for _, column, _ in self._places) + 1
        table = values.new_full((len(self._edges), width), -math.inf)
        numbers, columns, _ = zip(*self._places, strict=True)
        table[list(numbers), list(columns)] = values
        self._log_lipschitz = table

    def __call__(self, mu: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and variance of the logarithm of the bound, two scalars.

        Parameters
        ----------
        mu, variance
            The table of underlying normals, shape (G, M) each.
        """
        if self._log_lipschitz is None:
            raise RuntimeError("the constants must be measured first: call refresh().")
        log_lipschitz = self._log_lipschitz.to(mu)
        shared = self.options.cell_correlation == "shared"
        operations, inputs = log_lipschitz.shape[1], self._incoming.shape[1]
        alpha_mu, alpha_variance = (
            _with_plain_row(table, operations)[self._alpha] for table in (mu, variance)
        )
        beta_mu, beta_variance = (
            _with_plain_row(table, inputs)[self._beta] for table in (mu, variance)
        )
        return lipschitz_log_normal(
            alpha_mu=alpha_mu,
            alpha_variance=alpha_variance,
            log_lipschitz=log_lipschitz,
            beta_mu=beta_mu,
            beta_variance=beta_variance,
            incoming=self._incoming.to(mu.device),
            node_type=self._types.to(mu.device) if shared else None,
            form=self.options.eq12,
        )

    def shares(self, weights: LogNormalWeights) -> dict[str, float]:
        r"""Give the share of every operation in the bound, by name; they sum to 1.

        The share of an operation is :math:`\partial \mu / \partial \mu_o`, summed over its edges:
        by how much the bound moves with its weight.
        """
        mu, variance = (table.detach() for table in weights.log_normals())
        mu.requires_grad_()
        (gradient,) = torch.autograd.grad(self(mu, variance)[0], mu)
        totals: dict[str, float] = {}
        seen: set[str] = set()
        for edge in self._edges:
            if edge.label is None or edge.label in seen:
                continue
            seen.add(edge.label)
            row = gradient[weights.rows[edge.label]].tolist()
            for name, value in zip(edge.operations, row, strict=False):
                totals[name] = totals.get(name, 0.0) + value
        whole = sum(totals.values()) or 1.0
        return {name: value / whole for name, value in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed search needs: sizes, constants, and where their iterations stand."""
        return {
            "sizes": [list(edge.size or (1, 1)) for edge in self._edges],
            "log_lipschitz": self._log_lipschitz,
            "constants": self.constants.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._log_lipschitz = state["log_lipschitz"]
        self.constants.load_state_dict(state["constants"])

    def _measure(self, edges: Sequence[MixedEdge]) -> LipschitzConstants:
        operations: dict[str, nn.Module] = {}
        sizes: dict[str, tuple[int, int]] = {}
        known: dict[str, float] = {}
        for place, (number, _, name) in enumerate(self._places):
            edge = edges[number]
            operations[str(place)] = edge.operations[name]
            sizes[str(place)] = edge.size or (1, 1)
            if name in self.options.constants:
                known[str(place)] = self.options.constants[name]
        return LipschitzConstants(
            operations,
            sizes,
            method=self.options.lipschitz,
            fold_batch_norm=self.options.fold_batch_norm,
            pooling=self.options.pooling,
            known=known,
        )


def log_bound(
    network: nn.Module,
    x: Tensor,
    options: BoundOptions = BoundOptions(),  # an immutable value
) -> float | None:
    """Measure the logarithm of the bound of a network without weighed choices.

    Parameters
    ----------
    network
        A frozen network whose cells say what their nodes add; see
        :class:`nni_robust.oneshot.mixture.JoinsChoices`.
    x
        Images, (N, C, H, W), to run it once.
    options
        How the bound is taken.

    Returns
    -------
    float or None
        The sum over nodes of the logarithm of what their operations' constants add up to; None if
        the network says nothing of its nodes.
    """
    joined = [
        layers
        for module in network.modules()
        if isinstance(module, JoinsChoices)
        for _, layers in module.lipschitz_nodes()
    ]
    if not joined:
        return None
    nodes = [MixedNode(None, [_plain_edge(layer) for layer in layers]) for layers in joined]
    edges = [edge for node in nodes for edge in node.edges]
    hooks = [
        next(iter(edge.operations.values())).register_forward_pre_hook(
            lambda _, inputs, edge=edge: edge.see(inputs[0])
        )
        for edge in edges
    ]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(x)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    bound = LipschitzBound(nodes, {}, options)
    bound.refresh()
    mu, _ = bound(x.new_zeros(0, 1), x.new_zeros(0, 1))
    return float(mu)


def _plain_edge(layer: nn.Module) -> MixedEdge:
    return MixedEdge(None, {type(layer).__name__: layer})


def _kind(node: MixedNode) -> tuple[str | None, ...]:
    return (node.label, *(edge.label for edge in node.edges))


def _table_of_edges(nodes: Sequence[MixedNode]) -> Tensor:
    table = torch.full((len(nodes), max(len(node.edges) for node in nodes)), -1)
    first = 0
    for number, node in enumerate(nodes):
        table[number, : len(node.edges)] = torch.arange(first, first + len(node.edges))
        first += len(node.edges)
    return table


def _with_plain_row(table: Tensor, width: int) -> Tensor:
    """Add the row of weights that are 1 for sure, and bring the table to a width."""
    padding = (0, max(0, width - table.shape[1]), 0, 1)
    return nn.functional.pad(table, padding)[:, :width]
