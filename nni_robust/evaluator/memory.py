"""How the weights of convolutions lie in memory, which on a CPU decides how fast they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def put_channels_last(network: nn.Module) -> list[Tensor]:
    """Lay the weights of convolutions out with the channels innermost, where they are on a CPU.

    What reads them then lays out its output alike, and so on through the network. Values stay as
    they are; sums are taken in another order. See ``benchmarks/channels_last.py``.

    Parameters
    ----------
    network
        Changed in place, weight by weight: an optimiser's hold on them stays.

    Returns
    -------
    list of Tensor
        The weights that lay otherwise.
    """
    weights: list[Tensor] = [
        p for p in network.parameters() if p.dim() == 4 and p.device.type == "cpu"
    ]
    changed: list[Tensor] = [
        p for p in weights if not p.is_contiguous(memory_format=torch.channels_last)
    ]
    for weight in changed:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return changed


@contextlib.contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Keep the weights so as long as the block lasts; see :func:`put_channels_last`."""
    changed = put_channels_last(network)
    try:
        yield
    finally:
        for weight in changed:
            weight.data = weight.data.contiguous()
