"""Networks that a name stands for, and how a section of a file describes one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nni_robust.check import SettingError, below, did_you_mean, one_line
from nni_robust.data import RobustDataModule
from nni_robust.model import MODELS
from nni_robust.model.activation import ACTIVATIONS, replace_relu
from nni_robust.settings.grammar import build, call
from nni_robust.space import PUBLISHED, RACLSpace, RobNetSpace, published_names
from nni_robust.space.hub import hub_network
from nni_robust.space.robnet import denoised_robnet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **{n: partial(RobNetSpace.load_searched_model, n) for n in published_names("robnet")},
    **{n: partial(RACLSpace.load_searched_model, n) for n in published_names("darts")},
    **MODELS,
    **{n: partial(hub_network, n, auxiliary=False) for n in published_names("hub")},
    **{f"{n}-hub": partial(hub_network, n) for n in published_names("darts", "hub")},
    "robnet-large-denoise": partial(denoised_robnet, "robnet-large"),
    "resnet18-denoise": partial(MODELS["resnet18"], denoise=True),
}
"""Published architectures and references; ``racl-hub`` and so on are cells of NNI's hub with an
auxiliary head. RobNet-medium is not among them: its genotype was never published, and its size
alone does not tell it."""


def build_network(section: Any, data: RobustDataModule) -> nn.Module:
    """Build the network that a section describes, for the images of a data module.

    Parameters
    ----------
    section
        ``{name: resnet18, activation: silu, size: 0.5, ...}``: one of :data:`NETWORKS` or
        ``package.module:Class``; one of :data:`nni_robust.model.activation.ACTIVATIONS` in the
        place of ReLU, if any; for one of :data:`NETWORKS` a factor on its width, whatever unit that
        has, if any; arguments of the network.
    data
        Gives ``num_classes`` and ``in_channels``.

    Raises
    ------
    ValueError
        In one line, with the path of the key.
    """
    shape = {"num_classes": data.num_classes, "in_channels": data.image_shape[0]}
    arguments = dict(section) if isinstance(section, Mapping) else {}
    activation = arguments.pop("activation", "relu")
    if activation not in ACTIVATIONS:
        raise SettingError(
            f"must be one of {list(ACTIVATIONS)}, got {activation!r}."
            f"{did_you_mean(activation, ACTIVATIONS)}",
            *("network", "activation"),
        )
    name = arguments.get("name")
    if name in NETWORKS:
        del arguments["name"]
        if "size" in arguments:
            arguments["width"] = _scaled_width(name, arguments.pop("size"), arguments.get("width"))
        with below("network"):
            network = call(NETWORKS[name], {**shape, **arguments})
    else:
        network = build(arguments or section, NETWORKS, "network", **shape)
    if not isinstance(network, nn.Module):
        raise SettingError(f"must be a torch.nn.Module, got a {type(network).__name__}.", "network")
    if activation != "relu":
        replace_relu(network, ACTIVATIONS[activation])
    return network


def check_fit(network: nn.Module, data: RobustDataModule) -> None:
    """Raise a SettingError if a network does not take these images or has too few classes."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, *data.image_shape, device=device))
    except Exception as error:  # a user's network raises whatever it likes
        raise SettingError(
            f"must take images of shape {data.image_shape}, but fails on one: "
            f"{type(error).__name__}: {one_line(error)[:200]}",
            "network",
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < data.num_classes:
        raise SettingError(
            f"must return {data.num_classes} logits per image, shape (1, {data.num_classes}) for "
            f"one, got {shape}.",
            "network",
        )


def section_label(section: Mapping[str, Any]) -> str:
    """Name files after the network that a section describes."""
    return re.sub(r"[^\w.-]+", "_", str(section["name"]).rpartition(":")[2])


def _scaled_width(name: str, size: Any, width: Any) -> float:
    """Multiply a width: of cells the channels, which must be even, else the factor on them."""
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
        raise SettingError(f"must be a positive number, got {size!r}.", "network", "size")
    cell = PUBLISHED.get(name.removesuffix("-hub").removesuffix("-denoise"))
    if cell is None:
        return size * (1 if width is None else width)
    return max(2, 2 * round(size * (cell.width if width is None else width) / 2))
