"""Smooth activations in place of ReLU."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
}


def replace_relu(network: nn.Module, activation: Callable[[], nn.Module]) -> None:
    """Put another activation in the place of every ``nn.ReLU`` of a network.

    Parameters
    ----------
    network
        Changed in place. Activations that it calls as functions are not seen.
    activation
        Makes one, such as ``nn.SiLU``.

    Raises
    ------
    ValueError
        If the network has none.

    Notes
    -----
    Xie et al., *Smooth Adversarial Training*, 2020.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> replace_relu(network, nn.SiLU)
    >>> network[1]
    SiLU()
    """
    places = [
        (parent, name)
        for parent in network.modules()
        for name, child in parent.named_children()
        if type(child) is nn.ReLU
    ]
    if not places:
        raise ValueError(
            f"network must have modules of type nn.ReLU to replace, but {type(network).__name__} "
            "has none."
        )
    for parent, name in places:
        setattr(parent, name, activation())
