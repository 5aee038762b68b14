"""The memory layout of convolution weights, which decides how fast they run on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def put_channels_last(network: nn.Module) -> dict[nn.Parameter, Tensor]:
    """Store the weights of convolutions on a CPU with the channels innermost.

    A convolution with such weights writes its output in the same layout, and so do the layers
    after it. Values do not change, but sums are taken in another order. See
    ``benchmarks/channels_last.py``.

    Parameters
    ----------
    network
        Changed in place, weight by weight. Optimisers keep their references to the weights.

    Returns
    -------
    dict
        The changed weights, each with its data of before.
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
    """Use that layout in the block, which must not change the values of the weights.

    See :func:`put_channels_last`.
    """
    before = put_channels_last(network)
    try:
        yield
    finally:
        for weight, data in before.items():
            weight.data = data
