"""Published networks of NNI's hub (DARTS, NASNet, AmoebaNet), and the edges of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nni.nas.hub.pytorch import DARTS, AmoebaNet, NASNet
from nni.nas.hub.pytorch.nasnet import NDS, AuxiliaryHead
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from nni_robust.check import SettingError
from nni_robust.space.darts_genotype import SCOPES, darts_edges
from nni_robust.space.edge import Edge
from nni_robust.space.network import CellNetwork
from nni_robust.space.published import PUBLISHED

_SPACES = {"nasnet-a": NASNet, "amoebanet-a": AmoebaNet}
_SMALLEST = 1e-12  # a positive drop path rate makes the hub build drop paths; the recipe sets it
_HUB_CLASSES = 10  # of every space for CIFAR
_HUB_CHANNELS = 3


def hub_network(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    width: int = 36,
    num_cells: int = 20,
    auxiliary: bool = True,
) -> nn.Module:
    """Build a published architecture with NNI's hub.

    Parameters
    ----------
    name
        A name in :data:`nni_robust.space.PUBLISHED` of the kind ``darts`` or ``hub``.
    num_classes
        Number of classes.
    in_channels
        Channels of the images; must be 3, which is all that the hub supports.
    width, num_cells
        The size.
    auxiliary
        Whether the network has drop paths, and an auxiliary head that returns a second prediction
        in training mode. Both are for training on clean images.
    """
    if in_channels != _HUB_CHANNELS:
        raise SettingError(
            f"must not be a network of NNI's hub, such as {name!r}, for images of {in_channels} "
            f"channels: the hub supports {_HUB_CHANNELS}.",
            "name",
        )
    network: Any = _SPACES.get(name, DARTS).frozen_factory(_hub_sample(name))(
        width=width,
        num_cells=num_cells,
        dataset="cifar",
        auxiliary_loss=auxiliary,
        drop_path_prob=_SMALLEST if auxiliary else 0.0,
    )
    if num_classes != _HUB_CLASSES:
        network.classifier = nn.Linear(network.classifier.in_features, num_classes)
    if auxiliary:
        # The hub builds the head for the last cell of the last stage, but applies it to the first
        # cell, a reduction, whose number of channels can differ.
        num_nodes = len(network.stages[2][0].output_node_indices)
        network.auxiliary_head = AuxiliaryHead(4 * width * num_nodes, num_classes, dataset="cifar")
    return network  # type: ignore[no-any-return]  # NNI is untyped


def cell_edges(space: ModelSpace, sample: Mapping[str, Any]) -> dict[str, list[Edge]]:
    """Return the edges of every distinct cell of a sample, by name of the cell.

    Parameters
    ----------
    space
        One of our spaces, or NASNet, DARTS or a similar space of NNI's hub.
    sample
        Maps labels to choices.

    Returns
    -------
    dict
        Empty for any other space.
    """
    if isinstance(space, CellNetwork):
        return space.edges(sample)
    if isinstance(space, NDS):
        return {scope: _hub_edges(sample, f"{scope}/") for scope in SCOPES}
    return {}


def _hub_sample(name: str) -> dict[str, Any]:
    """Return a published architecture as a sample of the hub."""
    sample: dict[str, Any] = {}
    for scope, genotype in zip(SCOPES, PUBLISHED[name].genotypes, strict=True):
        for edge in darts_edges(genotype):  # the first edge of a node is its input 0
            place = int(f"{scope}/op_{edge.target}_0" in sample)
            sample[f"{scope}/op_{edge.target}_{place}"] = edge.label
            sample[f"{scope}/input_{edge.target}_{place}"] = [edge.source]
    return sample


def _hub_edges(sample: Mapping[str, Any], scope: str) -> list[Edge]:
    edges = []
    for label, operation in sample.items():
        if label.startswith(f"{scope}op_"):
            target, place = label.removeprefix(f"{scope}op_").split("_")
            (source,) = sample[f"{scope}input_{target}_{place}"]
            edges.append(Edge(int(source), int(target), (str(operation),)))
    return edges
