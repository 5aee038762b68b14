"""Modes, running statistics and memory layout of a network, which a block leaves as found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Restore the mode of every module at the end of the block.

    ``network.train(was_training)`` would give all modules the mode of the outermost one.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode, then restore the mode of every module.

    Examples
    --------
    >>> network = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    >>> with evaluation_mode(network):
    ...     network.training
    False
    >>> network.training
    True
    """
    with kept_modes(network):
        network.eval()
        yield


def tracking_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep running statistics."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@contextmanager
def held_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics unchanged in the block.

    Batch norms in training mode normalise by the batch, as always, but do not update them.
    """
    norms = [norm for norm in tracking_norms(network) if norm.training]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


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
        The weights that changed, each with its former data.
    """
    before = {}
    for weight in network.parameters():
        if weight.dim() != 4 or weight.device.type != "cpu":
            continue
        if not weight.is_contiguous(memory_format=torch.channels_last):
            before[weight] = weight.data
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return before


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Run the block in the layout of :func:`put_channels_last`, then restore the weights.

    The block must not change the values of the weights.
    """
    before = put_channels_last(network)
    try:
        yield
    finally:
        for weight, data in before.items():
            weight.data = data
