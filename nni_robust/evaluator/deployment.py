"""Run a network as it would be deployed: in evaluation mode, in float32, reproducibly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from nni_robust.check import SettingError
from nni_robust.evaluator.outcome import ImageSequence
from nni_robust.network_state import channels_last, evaluation_mode


@contextlib.contextmanager
def as_deployed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Run the block in evaluation mode and in exact float32 arithmetic."""
    exact = exact_arithmetic() if device.type == "cuda" else contextlib.nullcontext()
    with (
        evaluation_mode(network),
        exact,
        torch.autocast(device.type, enabled=False),
        channels_last(network),
    ):
        yield


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Make CUDA compute in full float32 and deterministically in the block."""
    # torch.backends.cudnn.flags is not enough: it raises a RuntimeError once the precision of a
    # single operation (cudnn.conv) has been set, and it does not cover matrix products.
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = [
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    if hasattr(matmul, "fp32_precision"):  # from torch 2.9 on, which may refuse to read allow_tf32
        switches += [(part, "fp32_precision", "ieee") for part in (matmul, cudnn.conv)]
    else:
        switches += [(part, "allow_tf32", False) for part in (matmul, cudnn)]
    found = [getattr(part, name) for part, name, _ in switches]
    try:
        for part, name, value in switches:
            setattr(part, name, value)
        yield
    finally:
        for (part, name, _), value in zip(switches, found, strict=True):
            setattr(part, name, value)


def device_of(network: nn.Module, x: ImageSequence) -> torch.device:
    """Return the device of the weights, or of the images if the network has no weights."""
    weight = next(network.parameters(), None)
    return x[:1].device if weight is None else weight.device


def check_precision(network: nn.Module) -> None:
    """Raise a SettingError unless all weights are float32 or float64."""
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype not in (torch.float32, torch.float64):
            raise SettingError(
                f"must hold float32 when it is evaluated, got {name} in {parameter.dtype}. Call "
                "network.float() first.",
                "network",
            )
