"""Smooth activations that replace ReLU."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nni_robust.check import SettingError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
}


def replace_relu(network: nn.Module, activation: Callable[[], nn.Module]) -> None:
    """Replace every ``nn.ReLU`` of a network by another activation.

    Parameters
    ----------
    network
        Changed in place. Activations that it calls as functions are not replaced.
    activation
        Builds the activation, such as ``nn.SiLU``.

    Raises
    ------
    SettingError
        If the network has no ``nn.ReLU``.

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
        raise SettingError(
            f"must have modules of type nn.ReLU to replace, but {type(network).__name__} has none.",
            "network",
        )
    for parent, name in places:
        setattr(parent, name, activation())
