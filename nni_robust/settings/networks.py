"""Networks that a name stands for, and how a section of a file describes one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from nni.nas.hub.pytorch import DARTS, AmoebaNet, NASNet
from nni.nas.hub.pytorch.nasnet import AuxiliaryHead
from torch import Tensor, nn

from nni_robust.check import SettingError, below, did_you_mean, one_line
from nni_robust.data import RobustDataModule
from nni_robust.model import MODELS, DenoisingBlock
from nni_robust.model.activation import ACTIVATIONS, replace_relu
from nni_robust.settings.grammar import build, call
from nni_robust.space import PUBLISHED, PUBLISHED_DARTS, RACLSpace, RobNetSpace
from nni_robust.space.darts_genotype import SCOPES, decode_darts, to_hub
from nni_robust.space.published import Published

PUBLISHED_NDS: dict[str, Published] = {
    # Of NASNet-A all nodes go into the output, of AmoebaNet-A those that no other node reads.
    "nasnet-a": Published(
        genotypes=(
            "sep_conv_5x5(1)+sep_conv_3x3(0)|sep_conv_5x5(0)+sep_conv_3x3(0)"
            "|avg_pool_3x3(1)+skip_connect(0)|avg_pool_3x3(0)+avg_pool_3x3(0)"
            "|sep_conv_3x3(1)+skip_connect(1)",
            "sep_conv_5x5(1)+sep_conv_7x7(0)|max_pool_3x3(1)+sep_conv_7x7(0)"
            "|avg_pool_3x3(1)+sep_conv_5x5(0)|skip_connect(3)+avg_pool_3x3(2)"
            "|sep_conv_3x3(2)+max_pool_3x3(1)",
        ),
    ),
    "amoebanet-a": Published(
        genotypes=(
            "avg_pool_3x3(0)+max_pool_3x3(1)|sep_conv_3x3(0)+sep_conv_5x5(2)"
            "|sep_conv_3x3(0)+avg_pool_3x3(3)|sep_conv_3x3(1)+skip_connect(1)"
            "|skip_connect(0)+avg_pool_3x3(1)",
            "avg_pool_3x3(0)+sep_conv_3x3(1)|max_pool_3x3(0)+sep_conv_7x7(2)"
            "|sep_conv_7x7(0)+avg_pool_3x3(1)|max_pool_3x3(0)+max_pool_3x3(1)"
            "|conv_7x1_1x7(0)+sep_conv_3x3(5)",
        ),
    ),
}
"""Cells of NNI's hub that no space of ours holds: five nodes, which may read one state twice."""

_SPACES = {"nasnet-a": NASNet, "amoebanet-a": AmoebaNet}


def hub_network(
    cell: str,
    *,
    num_classes: int,
    in_channels: int,
    width: int = 36,
    num_cells: int = 20,
    auxiliary: bool = True,
) -> nn.Module:
    """Build a published cell by NNI's hub.

    Parameters
    ----------
    cell
        One of :data:`nni_robust.space.PUBLISHED_DARTS` or :data:`PUBLISHED_NDS`.
    num_classes
        Classes of the classifiers.
    in_channels
        Channels of the images; the hub has 3 alone.
    width, num_cells
        The size.
    auxiliary
        Whether there is an auxiliary head, which gives a second prediction in training mode, and
        paths can be dropped; for training on clean images.
    """
    if in_channels != 3:
        raise ValueError(
            f"name must not be a network of NNI's hub, such as {cell!r}, for images of "
            f"{in_channels} channels: the hub has 3."
        )
    network: Any = _SPACES.get(cell, DARTS).frozen_factory(_hub_sample(cell))(
        width=width,
        num_cells=num_cells,
        dataset="cifar",
        auxiliary_loss=auxiliary,
        drop_path_prob=_SMALLEST if auxiliary else 0.0,
    )
    if num_classes != _CLASSES_OF_THE_HUB:
        network.classifier = nn.Linear(network.classifier.in_features, num_classes)
    if auxiliary:
        # The hub's own fits the last cell of the last stage, but reads the first, a reduction.
        nodes = len(network.stages[2][0].output_node_indices)
        network.auxiliary_head = AuxiliaryHead(4 * width * nodes, num_classes, dataset="cifar")
    return network  # type: ignore[no-any-return]  # NNI is untyped


_SMALLEST = 1e-12  # makes the hub build paths that can be dropped; the recipe sets their share
_CLASSES_OF_THE_HUB = 10


def _hub_sample(cell: str) -> dict[str, Any]:
    """Write a genotype as a sample of NNI's hub."""
    if cell in PUBLISHED_DARTS:
        return to_hub(decode_darts(PUBLISHED_DARTS[cell].genotypes))
    sample: dict[str, Any] = {}
    for scope, genotype in zip(SCOPES, PUBLISHED_NDS[cell].genotypes, strict=True):
        for target, node in enumerate(genotype.split("|"), start=2):
            for place, step in enumerate(node.split("+")):
                operation, _, source = step.rstrip(")").partition("(")
                sample[f"{scope}/op_{target}_{place}"] = operation
                sample[f"{scope}/input_{target}_{place}"] = [int(source)]
    return sample


class DenoisedCell(nn.Module):
    """A cell whose output is denoised before any later cell reads it.

    Parameters
    ----------
    cell
        Maps two inputs to its output.
    channels
        Channels of its output.
    """

    def __init__(self, cell: nn.Module, channels: int) -> None:
        super().__init__()
        self.cell = cell
        self.denoise = DenoisingBlock(channels)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Map the two inputs to the denoised output."""
        features: Tensor = self.denoise(self.cell(s0, s1))
        return features


def denoised_robnet(name: str, **arguments: Any) -> nn.Module:
    """Build a published RobNet with a denoising block after the last cell of each stage.

    Parameters
    ----------
    name
        One of :data:`nni_robust.space.PUBLISHED`.
    **arguments
        As for :meth:`nni_robust.space.RobNetSpace.load_searched_model`.

    Notes
    -----
    [RobNets] Tab. 4 does not say where the blocks are; these are the places of the blocks in the
    ResNets of Xie et al. (2019).
    """
    network: Any = RobNetSpace.load_searched_model(name, **arguments)
    plans = list(network.macro.cells())
    ends = [i for i, (_, after) in enumerate(pairwise(plans)) if after.reduction]
    for index in [*ends, len(plans) - 1]:
        network.cells[index] = DenoisedCell(network.cells[index], 4 * plans[index].width)
    return network  # type: ignore[no-any-return]  # NNI is untyped


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(RobNetSpace.load_searched_model, name) for name in PUBLISHED},
    **{name: partial(RACLSpace.load_searched_model, name) for name in PUBLISHED_DARTS},
    **MODELS,
    **{name: partial(hub_network, name, auxiliary=False) for name in PUBLISHED_NDS},
    **{f"{name}-hub": partial(hub_network, name) for name in (*PUBLISHED_DARTS, *PUBLISHED_NDS)},
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
    published = {**PUBLISHED, **PUBLISHED_DARTS, **PUBLISHED_NDS}
    cell = published.get(name.removesuffix("-hub").removesuffix("-denoise"))
    if cell is None:
        return size * (1 if width is None else width)
    return max(2, 2 * round(size * (cell.width if width is None else width) / 2))
