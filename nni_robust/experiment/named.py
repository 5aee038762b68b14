"""Networks that a name stands for, and how a section of a file describes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nni.nas.hub.pytorch import DARTS
from torch import nn

from nni_robust.data import RobustDataModule
from nni_robust.evaluator.activation import ACTIVATIONS, replace_relu
from nni_robust.experiment.settings import build, call
from nni_robust.model import MODELS
from nni_robust.space import PUBLISHED, PUBLISHED_DARTS, RACLSpace, RobNetSpace
from nni_robust.space.darts import decode_darts, to_hub


def hub_network(
    cell: str, *, num_classes: int, in_channels: int, width: int = 36, num_cells: int = 20
) -> nn.Module:
    """Build a published DARTS cell by NNI's hub, with an auxiliary head and paths to drop.

    Parameters
    ----------
    cell
        One of :data:`nni_robust.space.PUBLISHED_DARTS`.
    num_classes, in_channels
        Of the images: 10 and 3, as the hub has it.
    width, num_cells
        The size.
    """
    if (num_classes, in_channels) != (10, 3):
        raise ValueError(
            f"name must be {cell!r} for images that are not as CIFAR-10, since NNI's hub has 3 "
            f"channels and 10 classes, got {in_channels} and {num_classes}."
        )
    sample = to_hub(decode_darts(PUBLISHED_DARTS[cell].genotypes))
    network: nn.Module = DARTS.frozen_factory(sample)(
        width=width,
        num_cells=num_cells,
        dataset="cifar",
        auxiliary_loss=True,
        drop_path_prob=_SMALLEST,
    )
    return network


_SMALLEST = 1e-12  # makes the hub build paths that can be dropped; the recipe sets their share

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(RobNetSpace.load_searched_model, name) for name in PUBLISHED},
    **{name: partial(RACLSpace.load_searched_model, name) for name in PUBLISHED_DARTS},
    **MODELS,
    **{f"{name}-hub": partial(hub_network, name) for name in PUBLISHED_DARTS},
}
"""Published architectures and references; ``racl-hub`` and so on are cells of NNI's hub."""


def build_network(section: Any, data: RobustDataModule) -> nn.Module:
    """Build the network that a section describes, for the images of a data module.

    Parameters
    ----------
    section
        ``{name: resnet18, activation: silu, ...}``: one of :data:`NETWORKS` or
        ``package.module:Class``; one of :data:`nni_robust.evaluator.activation.ACTIVATIONS` in the
        place of ReLU, if any; arguments of the network.
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
        raise ValueError(
            f"network.activation must be one of {list(ACTIVATIONS)}, got {activation!r}."
        )
    name = arguments.get("name")
    if name in NETWORKS:
        del arguments["name"]
        network = call(NETWORKS[name], {**shape, **arguments}, "network")
    else:
        network = build(arguments or section, NETWORKS, "network", **shape)
    if not isinstance(network, nn.Module):
        raise ValueError(f"network must be a torch.nn.Module, got a {type(network).__name__}.")
    if activation != "relu":
        replace_relu(network, ACTIVATIONS[activation])
    return network
