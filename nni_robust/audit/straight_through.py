"""A stand-in for a network with layers that no gradient passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_STAIRS = frozenset(
    {
        *(torch.round, torch.floor, torch.ceil, torch.trunc, torch.fix, torch.sign, torch.detach),
        *(Tensor.round, Tensor.floor, Tensor.ceil, Tensor.trunc, Tensor.fix, Tensor.sign),
        *(Tensor.detach, Tensor.data.__get__),  # type: ignore[attr-defined]  # a C descriptor
    }
)


class StraightThrough(nn.Module):
    """The same network, but its step functions have the derivative of the identity.

    Step functions are ``round``, ``floor``, ``ceil``, ``trunc`` and ``sign``; ``detach`` counts as
    one. In-place versions and casts to integers are not recognised. The outputs are those of the
    network up to rounding errors.

    Parameters
    ----------
    network
        The network; its weights are shared.

    Notes
    -----
    Athalye, Carlini and Wagner, *Obfuscated Gradients Give a False Sense of Security*, 2018,
    Sec. 4.1: a layer that is close to the identity is replaced by it in the backward pass.

    Examples
    --------
    >>> x = torch.tensor([0.3, 0.8], requires_grad=True)
    >>> class Rounded(nn.Module):
    ...     def forward(self, x):
    ...         return x.round().sum()
    >>> torch.autograd.grad(Rounded()(x), x)
    (tensor([0., 0.]),)
    >>> torch.autograd.grad(StraightThrough(Rounded())(x), x)
    (tensor([1., 1.]),)
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        with _Straighten():
            logits: Tensor = self.network(x)
        return logits

    def num_steps(self, x: Tensor) -> int:
        """Count the step functions between the logits and the images."""
        x = x.detach().requires_grad_()
        mode = _Straighten()
        with torch.enable_grad(), mode:
            self.network(x)
        return mode.num_steps


class _Straighten(TorchFunctionMode):
    """Intercept all operations of torch, and replace the derivative of step functions."""

    def __init__(self) -> None:
        super().__init__()
        self.num_steps: int = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in _STAIRS or not (args and torch.is_grad_enabled() and args[0].requires_grad):
            return result
        self.num_steps += 1
        return args[0] + (result - args[0]).detach()
