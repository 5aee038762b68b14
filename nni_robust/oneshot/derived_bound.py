"""The bound on the Lipschitz constant of a derived network, which has no weighted choices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nni_robust.oneshot.lipschitz_bound import LipschitzBound
from nni_robust.oneshot.node import MixedEdge, MixedNode
from nni_robust.oneshot.node_graph import JoinsChoices
from nni_robust.oneshot.options import BoundOptions


def log_bound(
    network: nn.Module,
    x: Tensor,
    options: BoundOptions = BoundOptions(),  # noqa: B008  # an immutable value
) -> float | None:
    """Return the logarithm of the Lipschitz bound of a network without weighted choices.

    Parameters
    ----------
    network
        A frozen network whose cells say what their nodes add; see
        :class:`nni_robust.oneshot.node_graph.JoinsChoices`.
    x
        Images to run it on once, shape (N, C, H, W).
    options
        How the bound is computed.

    Returns
    -------
    float or None
        The sum over nodes of the logarithm of the sum of their operations' constants. None if no
        module of the network has the method.

    Raises
    ------
    SettingError
        As :class:`LipschitzBound`.
    """
    joined = [
        layers
        for module in network.modules()
        if isinstance(module, JoinsChoices)
        for _, layers in module.lipschitz_nodes()
    ]
    if not joined:
        return None
    nodes = [MixedNode(None, [_plain_edge(layer) for layer in layers]) for layers in joined]
    edges = [edge for node in nodes for edge in node.edges]
    hooks = [
        next(iter(edge.operations.values())).register_forward_pre_hook(
            lambda _, inputs, edge=edge: edge.note_size(inputs[0])
        )
        for edge in edges
    ]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(x)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    bound = LipschitzBound(nodes, {}, options)
    bound.refresh()
    mu, _ = bound(x.new_zeros(0, 1), x.new_zeros(0, 1))
    return float(mu)


def _plain_edge(layer: nn.Module) -> MixedEdge:
    return MixedEdge(None, {type(layer).__name__: layer})
