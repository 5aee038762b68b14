"""Work on a network and leave it as it was found: its modes and its running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Give every module its own mode back at the end of the block.

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
    """Run the block in evaluation mode, then give every module its own mode back.

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
