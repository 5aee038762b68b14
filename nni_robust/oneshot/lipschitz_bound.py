"""The bound on a supernet's Lipschitz constant, computed from its nodes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nni_robust.check import SettingError, did_you_mean
from nni_robust.functional.lognormal import lipschitz_log_normal
from nni_robust.oneshot.lognormal import LogNormalWeights
from nni_robust.oneshot.node import MixedNode, distinct_edges
from nni_robust.oneshot.options import BoundOptions
from nni_robust.op.lipschitz_constants import LipschitzConstants

_logger = logging.getLogger(__name__)

_FIRST_ITERATIONS = 20  # power iterations of the first measurement
_ITERATIONS = 2  # of later ones, which continue from the last vectors


class LipschitzBound:
    r"""The log-normal that bounds the Lipschitz constant of a supernet.

    .. math:: \lambda_F = \prod_{k, j} \sum_i \beta^{(i, j)} \sum_o \alpha_o^{(i, j)} \lambda_o

    over the nodes j of all cells k.

    Parameters
    ----------
    nodes
        Nodes of a network that has run once, so that the sizes of its feature maps are known.
    rows
        From a label to its row in the table of weights.
    options
        How the bound is computed.
    required
        True refuses a network if none of its operations can be measured; False gives it the
        bound 1.

    Attributes
    ----------
    nodes
        As given.
    unknown
        From the name of a candidate to why it cannot be measured. The bound leaves it out.

    Raises
    ------
    SettingError
        If ``options.constants`` names no operation, or no operation can be measured.
    RuntimeError
        If the network has not run yet.

    Notes
    -----
    [RACL] Eq. 10.
    """

    def __init__(
        self,
        nodes: Sequence[MixedNode],
        rows: Mapping[str, int],
        options: BoundOptions = BoundOptions(),  # noqa: B008  # an immutable value
        *,
        required: bool = True,
    ) -> None:
        self.options = options
        self.nodes = list(nodes)
        self._edges = [edge for node in nodes for edge in node.edges]
        if all(edge.size is None for edge in self._edges):
            raise RuntimeError("the network must run once before its Lipschitz bound is computed.")
        self._places = [
            (number, column, name)
            for number, edge in enumerate(self._edges)
            for column, name in enumerate(edge.operations)
        ]
        names = sorted({name for _, _, name in self._places})
        for name in options.constants:
            if name not in names:
                hint = did_you_mean(name, names)
                raise SettingError(
                    f"must name operations, one of {names}, got {name!r}.{hint}", "constants"
                )
        self.constants = self._lipschitz_constants()
        plain = len(rows)  # the row of weights that are all 1
        self._alpha = torch.tensor(
            [plain if edge.label is None else rows[edge.label] for edge in self._edges]
        )
        self._beta = torch.tensor([plain if n.label is None else rows[n.label] for n in nodes])
        self._incoming = _table_of_edges(nodes)
        kinds = [(node.label, *(edge.label for edge in node.edges)) for node in nodes]
        self._types = torch.tensor([kinds.index(kind) for kind in kinds])
        self._log_lipschitz: Tensor | None = None
        self.unknown = {
            self._places[int(key)][2]: reason for key, reason in self.constants.unknown.items()
        }
        if required and len(self.constants.unknown) == len(self._places):
            raise SettingError(
                f"must have an operation whose Lipschitz constant can be measured, but none of "
                f"{sorted(self.unknown)} can: {next(iter(self.unknown.values()))} Set their "
                "constants with `constants`.",
                "space",
            )
        for name, reason in self.unknown.items():
            _logger.warning(
                "The operation %r is left out of the bound: %s Set its Lipschitz constant with "
                "`constants`.",
                name,
                reason,
            )

    @property
    def measured(self) -> bool:
        """Whether the constants were measured at least once."""
        return self._log_lipschitz is not None

    def refresh(self) -> None:
        """Measure the constants of all operations with their present weights."""
        values = self.constants.update(_ITERATIONS if self.measured else _FIRST_ITERATIONS)
        width = max(column for _, column, _ in self._places) + 1
        table = values.new_full((len(self._edges), width), -math.inf)
        numbers, columns, _ = zip(*self._places, strict=True)
        table[list(numbers), list(columns)] = values
        self._log_lipschitz = table

    def __call__(self, mu: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the logarithm of the bound, two scalars.

        Parameters
        ----------
        mu, variance
            The table of underlying normals, shape (G, M) each.

        Raises
        ------
        RuntimeError
            If :meth:`refresh` has not been called.
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
        r"""Return the share of every operation in the bound, by name; they sum to 1.

        The share of an operation is :math:`\partial \mu / \partial \mu_o`, summed over its edges:
        how much the bound moves with its weight.
        """
        mu, variance = (table.detach() for table in weights.underlying_normals())
        mu.requires_grad_()
        (gradient,) = torch.autograd.grad(self(mu, variance)[0], mu)
        totals: dict[str, float] = {}
        for label, edge in distinct_edges(self._edges).items():
            row = gradient[weights.rows[label]].tolist()
            for name, value in zip(edge.operations, row, strict=False):
                totals[name] = totals.get(name, 0.0) + value
        whole = sum(totals.values()) or 1.0
        return {name: value / whole for name, value in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed search needs: sizes, constants, vectors of the power iterations."""
        return {
            "sizes": [list(edge.size or (1, 1)) for edge in self._edges],
            "log_lipschitz": self._log_lipschitz,
            "constants": self.constants.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the constants of :meth:`state_dict`; the edges must have its sizes already."""
        self._log_lipschitz = state["log_lipschitz"]
        self.constants.load_state_dict(state["constants"])

    def _lipschitz_constants(self) -> LipschitzConstants:
        given = self.options.constants
        places = {
            str(key): (self._edges[number], name)
            for key, (number, _, name) in enumerate(self._places)
        }
        return LipschitzConstants(
            {key: edge.operations[name] for key, (edge, name) in places.items()},
            {key: edge.size or (1, 1) for key, (edge, _) in places.items()},
            method=self.options.lipschitz,
            fold_batch_norm=self.options.fold_batch_norm,
            pooling=self.options.pooling,
            known={key: given[name] for key, (_, name) in places.items() if name in given},
        )


def _table_of_edges(nodes: Sequence[MixedNode]) -> Tensor:
    table = torch.full((len(nodes), max(len(node.edges) for node in nodes)), -1)
    first = 0
    for number, node in enumerate(nodes):
        table[number, : len(node.edges)] = torch.arange(first, first + len(node.edges))
        first += len(node.edges)
    return table


def _with_plain_row(table: Tensor, width: int) -> Tensor:
    """Append the row of weights that are always 1, and set the width of the table."""
    padding = (0, max(0, width - table.shape[1]), 0, 1)
    return nn.functional.pad(table, padding)[:, :width]
