"""The Lipschitz constants of operations while they are trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nni_robust.check import SettingError, check_choice
from nni_robust.functional.convolution_norm import (
    Convolution,
    Pair,
    circular_norm,
    operator_norm,
    reshaped_norm,
)
from nni_robust.op.layer_sequence import BatchNorm, UnknownOperation
from nni_robust.op.lipschitz_factors import (
    BatchNormFactor,
    Chain,
    ConstantFactor,
    Factor,
    ParallelChains,
    PoolingNorm,
    batch_norm_scale,
    lipschitz_factors,
)

ConvolutionNorm = Literal["operator", "layers", "reshaped"]

_SEED = 0  # of the first vectors of the power iterations
# Share of the first vectors that is added to those of the last update. A direction that was weak
# may have vanished from them, and must be found when it grows. An estimate changes by the square.
_FRESH = 1e-3


class LipschitzConstants:
    r"""The Lipschitz constants of many operations, updated while they are trained.

    Parameters
    ----------
    operations
        Operations by key. Every update reads their present weights.
    sizes
        From a key to (H, W) of the operation's input; (1, 1) for vectors.
    method
        Constant of convolutions in a row: ``operator``, the norm of their composition, by power
        iteration; ``layers``, the product of an upper bound per layer, in closed form;
        ``reshaped``, the product of the norms of the weights, each written as a matrix.
    fold_batch_norm
        Whether the scales of batch norms count, with their running variances.
    pooling
        Constants of pooling: ``paper``, those of [RACL]; ``operator``, the true ones.
    known
        Constants by key, finite and not negative; these operations are not measured.

    Attributes
    ----------
    unknown
        From the key of an operation that cannot be measured to the reason.

    Raises
    ------
    SettingError
        If an argument is outside its range, or the keys do not match.

    Notes
    -----
    [RACL] Sec. 2.2 takes "the spectral norm of the weight matrix" of an operation. A separable
    convolution has several weights; ``operator`` takes those between two activations as one map.

    Examples
    --------
    >>> double = nn.Conv2d(1, 1, 1)
    >>> _ = nn.init.constant_(double.weight, 2.0)
    >>> operations = {"double": nn.Sequential(nn.ReLU(), double), "skip": nn.Identity()}
    >>> constants = LipschitzConstants(operations, {"double": (8, 8), "skip": (8, 8)})
    >>> constants.update(iterations=2).exp()
    tensor([2., 1.])
    """

    def __init__(
        self,
        operations: Mapping[str, nn.Module],
        sizes: Mapping[str, Pair],
        *,
        method: ConvolutionNorm = "operator",
        fold_batch_norm: bool = False,
        pooling: PoolingNorm = "paper",
        known: Mapping[str, float] = {},  # only read
    ) -> None:
        check_choice("method", method, get_args(ConvolutionNorm))
        check_choice("pooling", pooling, get_args(PoolingNorm))
        _check_keys(operations, sizes, known)
        self.method = method
        self.fold_batch_norm = fold_batch_norm
        self.unknown: dict[str, str] = {}
        self._factors: list[list[Factor]] = []
        for key, module in operations.items():
            if key in known:
                self._factors.append([ConstantFactor(known[key])])
                continue
            try:
                factors = lipschitz_factors(module, sizes[key], pooling=pooling)
                if fold_batch_norm:
                    _check_statistics(factors)
                self._factors.append(factors)
            except UnknownOperation as reason:
                self.unknown[key] = str(reason)
                self._factors.append([ConstantFactor(0.0)])
        self._groups = _groups(self._factors, method)

    @torch.no_grad()
    def update(self, iterations: int) -> Tensor:
        r"""Measure all operations with their present weights.

        Parameters
        ----------
        iterations
            Steps of the power iterations, at least 1; they continue where the last update ended.

        Returns
        -------
        log_lipschitz
            :math:`\ln \lambda` in the order of ``operations``, on the device of their weights;
            minus infinity for operations that return zeros or are unknown.
        """
        measured: list[Chain | BatchNormFactor] = []
        norms: list[Tensor] = []
        for group in self._groups:
            measured += group.chains
            norms.append(self._measure(group, iterations))
        if self.fold_batch_norm:
            scales = [x for x in _flat(self._factors) if isinstance(x, BatchNormFactor)]
            measured += scales
            norms += [batch_norm_scale(scale.norm).abs().amax()[None] for scale in scales]
        values = torch.cat(norms) if norms else torch.ones(0)
        # One copy from the device and one back, not one per operation.
        values_of = dict(zip(measured, values.tolist(), strict=True))
        logs = [
            math.fsum(_log_constant(factor, values_of) for factor in factors)
            for factors in self._factors
        ]
        return torch.tensor(logs, device=values.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the vectors of the power iterations; tensors only."""
        return {"vectors": [group.vectors for group in self._groups if group.vectors is not None]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the power iterations from the vectors of :meth:`state_dict`.

        Raises
        ------
        ValueError
            If the state belongs to other operations.
        """
        groups = [group for group in self._groups if group.vectors is not None]
        expected = [tuple(group.start.shape) for group in groups]
        came = [tuple(vectors.shape) for vectors in state["vectors"]]
        if came != expected:
            raise ValueError(
                f"state['vectors'] must have the shapes {expected} of these operations, got {came}."
                " Build the operations whose state was saved."
            )
        for group, vectors in zip(groups, state["vectors"], strict=True):
            group.vectors = vectors

    def _measure(self, group: _Group, iterations: int) -> Tensor:
        """Return the norms of the chains of a group, shape (B,)."""
        weights = [
            torch.stack([x.folded_weight() if self.fold_batch_norm else x.weight() for x in row])
            for row in zip(*(chain.layers for chain in group.chains), strict=True)
        ]
        with torch.autocast(weights[0].device.type, enabled=False):
            if self.method == "reshaped":
                return torch.stack([reshaped_norm(weight) for weight in weights]).prod(0)
            if group.vectors is None:
                norms = [
                    circular_norm(weight, conv, size)
                    for weight, conv, size in zip(
                        weights, group.convolutions, group.sizes, strict=True
                    )
                ]
                return torch.stack(norms).prod(0)
            start = group.vectors.to(weights[0]) + _FRESH * group.start.to(weights[0])
            result, group.vectors = operator_norm(
                weights, group.convolutions, start, iterations=iterations
            )
            return result


@dataclass(eq=False)
class _Group:
    """Chains of the same shape, which are measured together."""

    chains: list[Chain]
    convolutions: list[Convolution]
    sizes: list[Pair]  # (H, W) of the input of each layer
    start: Tensor  # (B, C, H, W)
    vectors: Tensor | None  # of the power iteration; None if the norm has a closed form


def _groups(operations: Sequence[Sequence[Factor]], method: ConvolutionNorm) -> list[_Group]:
    chains_of: dict[Any, list[Chain]] = {}
    for factor in _flat(operations):
        for chain in factor.chains if isinstance(factor, ParallelChains) else ():
            form = tuple((x.convolution, tuple(x.weight().shape)) for x in chain.layers)
            chains_of.setdefault((chain.size, form), []).append(chain)
    generator = torch.Generator().manual_seed(_SEED)
    groups = []
    for (size, form), chains in chains_of.items():
        sizes = [size]
        for convolution, shape in form:
            sizes.append(convolution.output_size(sizes[-1], shape[2:]))
        first, shape = form[0]
        start = torch.randn(len(chains), shape[1] * first.groups, *size, generator=generator)
        iterated = method == "operator" and (len(form) > 1 or shape[2:] != (1, 1))
        convolutions = [convolution for convolution, _ in form]
        groups.append(_Group(chains, convolutions, sizes[:-1], start, start if iterated else None))
    return groups


def _flat(operations: Sequence[Sequence[Factor]]) -> Iterator[Factor]:
    return (factor for factors in operations for factor in factors)


def _log_constant(factor: Factor, values: Mapping[Any, float]) -> float:
    if isinstance(factor, ParallelChains):
        value = max(values[chain] for chain in factor.chains)
    elif isinstance(factor, ConstantFactor):
        value = factor.value
    else:
        value = values.get(factor, 1.0)  # no value if batch norms do not count
    return math.log(value) if value != 0 else -math.inf


def _check_statistics(factors: Sequence[Factor]) -> None:
    norms: list[BatchNorm] = []
    for factor in factors:
        if isinstance(factor, BatchNormFactor):
            norms.append(factor.norm)
        elif isinstance(factor, ParallelChains):
            norms += [norm for chain in factor.chains for x in chain.layers for norm in x.norms]
    if any(norm.running_var is None for norm in norms):
        raise UnknownOperation("a batch norm without running statistics has no fixed scale.")


def _check_keys(
    operations: Mapping[str, nn.Module], sizes: Mapping[str, Pair], known: Mapping[str, float]
) -> None:
    missing = sorted(set(operations) - set(sizes) - set(known))
    if missing:
        raise SettingError(
            f"must have a size for every operation, got none for {missing}.", "sizes"
        )
    strange = sorted(set(known) - set(operations))
    if strange:
        raise SettingError(f"must have keys of operations, got {strange}.", "known")
    for key, value in known.items():
        if not (value >= 0 and math.isfinite(value)):
            raise SettingError(
                f"must be finite and not negative, got {value!r}.", f"known[{key!r}]"
            )
