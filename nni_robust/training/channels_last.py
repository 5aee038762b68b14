"""How the weights of convolutions lie in memory, which on a CPU decides how fast they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def put_channels_last(network: nn.Module) -> dict[nn.Parameter, Tensor]:
    """Lay the weights of convolutions out with the channels innermost, where they are on a CPU.

    What reads them then lays out its output alike, and so on through the network. Values stay as
    they are; sums are taken in another order. See ``benchmarks/channels_last.py``.

    Parameters
    ----------
    network
        Changed in place, weight by weight: an optimiser's hold on them stays.

    Returns
    -------
    dict
        From the weights that lay otherwise to their data before.
    """
    before = {}
    for weight in network.parameters():
        if weight.dim() != 4 or weight.device.type != "cpu":
            continue
        if not weight.is_contiguous(memory_format=torch.channels_last):
            before[weight] = weight.data
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return before


@contextlib.contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Keep the weights so as long as the block lasts, which must not change their values.

    See :func:`put_channels_last`.
    """
    before = put_channels_last(network)
    try:
        yield
    finally:
        for weight, data in before.items():
            weight.data = data
