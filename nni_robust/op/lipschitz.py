"""Lipschitz constants of operations while these are trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nni_robust.functional.lipschitz import (
    Convolution,
    Pair,
    circular_norm,
    operator_norm,
    reshaped_norm,
)
from nni_robust.op.linear_parts import (
    Chain,
    Chains,
    Constant,
    Norm,
    Part,
    PoolingMethod,
    Scale,
    UnknownOperation,
    anatomy,
    batch_norm_scale,
    is_zero,
)

__all__ = [
    "LipschitzConstants",
    "Method",
    "PoolingMethod",
    "UnknownOperation",
    "anatomy",
    "is_zero",
]

Method = Literal["operator", "layers", "reshaped"]

_SEED = 0  # of the vectors where power iterations start
# So much of the first vectors is added to those where an update goes on: what was weak in an
# operation may have vanished from them, and must be found when it grows. An estimate moves by the
# square of it.
_FRESH = 1e-3


class LipschitzConstants:
    r"""The Lipschitz constants of many operations, kept up to date while these are trained.

    Parameters
    ----------
    operations
        Operations by key. Their weights are read where they are, at every update.
    sizes
        For every key (H, W) of what the operation reads; (1, 1) for vectors.
    method
        Constant of convolutions in a row: ``operator``, the norm of the linear map that they are
        together, by power iteration; ``layers``, the product of a bound for each, in closed form;
        ``reshaped``, the product of the norms of the weights as matrices.
    fold_batch_norm
        Whether the scales of batch norms count, with their running variances.
    pooling
        Constants of poolings: ``paper``, those of [RACL]; ``operator``, their true ones.
    known
        Constants by key, not negative; these operations are not measured.

    Attributes
    ----------
    unknown
        From the key of an operation that cannot be measured to the reason.

    Notes
    -----
    [RACL] Sec. 2.2 takes "the spectral norm of the weight matrix" of an operation. A separable
    convolution has several; ``operator`` takes those between two activations as one.

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
        method: Method = "operator",
        fold_batch_norm: bool = False,
        pooling: PoolingMethod = "paper",
        known: Mapping[str, float] = {},  # only read
    ) -> None:
        _check_choice("method", method, get_args(Method))
        _check_choice("pooling", pooling, get_args(PoolingMethod))
        _check_keys(operations, sizes, known)
        self.method = method
        self.fold_batch_norm = fold_batch_norm
        self.unknown: dict[str, str] = {}
        self._parts: list[list[Part]] = []
        for key, module in operations.items():
            if key in known:
                self._parts.append([Constant(known[key])])
                continue
            try:
                parts = anatomy(module, sizes[key], pooling=pooling)
                if fold_batch_norm:
                    _check_statistics(parts)
                self._parts.append(parts)
            except UnknownOperation as reason:
                self.unknown[key] = str(reason)
                self._parts.append([Constant(0.0)])
        self._groups = _groups(self._parts, method)

    @torch.no_grad()
    def update(self, iterations: int) -> Tensor:
        r"""Measure all operations with the weights that they have now.

        Parameters
        ----------
        iterations
            Steps of the power iterations, at least 1; they go on where the last update ended.

        Returns
        -------
        log_lipschitz
            :math:`\ln \lambda` in the order of ``operations``, on the device of their weights;
            minus infinity for what gives zeros and for what is unknown.
        """
        measured: list[Chain | Scale] = []
        norms: list[Tensor] = []
        for group in self._groups:
            measured += group.chains
            norms.append(self._measure(group, iterations))
        if self.fold_batch_norm:
            scales = [part for part in _flat(self._parts) if isinstance(part, Scale)]
            measured += scales
            norms += [batch_norm_scale(scale.norm).abs().amax()[None] for scale in scales]
        values = torch.cat(norms) if norms else torch.ones(0)
        # Python's numbers are copied to the device and back once, not once an operation.
        values_of = dict(zip(measured, values.tolist(), strict=True))
        logs = [
            math.fsum(_log_constant(part, values_of) for part in parts) for parts in self._parts
        ]
        return torch.tensor(logs, device=values.device)

    def state_dict(self) -> dict[str, Any]:
        """Give where the power iterations stand: tensors alone."""
        return {"vectors": [group.vectors for group in self._groups if group.vectors is not None]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the power iterations go on where those of :meth:`state_dict` stood.

        Raises
        ------
        ValueError
            If the state is that of other operations.
        """
        groups = [group for group in self._groups if group.vectors is not None]
        expected = [tuple(group.start.shape) for group in groups]
        came = [tuple(vectors.shape) for vectors in state["vectors"]]
        if came != expected:
            raise ValueError(
                f"state['vectors'] must have the shapes {expected} of these operations, got {came}."
                " Build the operations that the state was saved of."
            )
        for group, vectors in zip(groups, state["vectors"], strict=True):
            group.vectors = vectors

    def _measure(self, group: _Group, iterations: int) -> Tensor:
        """Give the norms of the chains of a group, shape (B,)."""
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
    """Chains of one shape, which are measured together."""

    chains: list[Chain]
    convolutions: list[Convolution]
    sizes: list[Pair]  # (H, W) of what each layer reads
    start: Tensor  # (B, C, H, W)
    vectors: Tensor | None  # where the power iteration stands; None if the norm has a closed form


def _groups(operations: Sequence[Sequence[Part]], method: Method) -> list[_Group]:
    alike: dict[Any, list[Chain]] = {}
    for part in _flat(operations):
        for chain in part.chains if isinstance(part, Chains) else ():
            form = tuple((x.convolution, tuple(x.weight().shape)) for x in chain.layers)
            alike.setdefault((chain.size, form), []).append(chain)
    generator = torch.Generator().manual_seed(_SEED)
    groups = []
    for (size, form), chains in alike.items():
        sizes = [size]
        for convolution, shape in form:
            sizes.append(convolution.output_size(sizes[-1], shape[2:]))
        first, shape = form[0]
        start = torch.randn(len(chains), shape[1] * first.groups, *size, generator=generator)
        iterated = method == "operator" and (len(form) > 1 or shape[2:] != (1, 1))
        convolutions = [convolution for convolution, _ in form]
        groups.append(_Group(chains, convolutions, sizes[:-1], start, start if iterated else None))
    return groups


def _flat(operations: Sequence[Sequence[Part]]) -> Iterator[Part]:
    return (part for parts in operations for part in parts)


def _log_constant(part: Part, values: Mapping[Any, float]) -> float:
    if isinstance(part, Chains):
        value = max(values[chain] for chain in part.chains)
    elif isinstance(part, Constant):
        value = part.value
    else:
        value = values.get(part, 1.0)  # without a value where batch norms do not count
    return math.log(value) if value != 0 else -math.inf


def _check_statistics(parts: Sequence[Part]) -> None:
    norms: list[Norm] = []
    for part in parts:
        if isinstance(part, Scale):
            norms.append(part.norm)
        elif isinstance(part, Chains):
            norms += [norm for chain in part.chains for x in chain.layers for norm in x.norms]
    if any(norm.running_var is None for norm in norms):
        raise UnknownOperation("a batch norm without running statistics has no scale of its own.")


def _check_choice(argument: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{argument} must be one of {list(known)}, got {value!r}.")


def _check_keys(
    operations: Mapping[str, nn.Module], sizes: Mapping[str, Pair], known: Mapping[str, float]
) -> None:
    missing = sorted(set(operations) - set(sizes) - set(known))
    if missing:
        raise ValueError(f"sizes must have a size for every operation, got none for {missing}.")
    strange = sorted(set(known) - set(operations))
    if strange:
        raise ValueError(f"known must have keys of operations, got {strange}.")
    for key, value in known.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"known[{key!r}] must be finite and not negative, got {value!r}.")
