"""Batch-norm statistics of a network whose weights come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nni_robust.attack import Attack


def reestimate_batch_norm(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    attack: Attack | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Replace the running statistics of every batch norm by averages over some batches.

    A subnetwork inherits statistics that mix all subnetworks ever trained; without this step
    its accuracy says nothing of its weights.

    Parameters
    ----------
    network
        Changed in place: running means and variances only. Its mode is left as found.
    batches
        Images and labels; every batch counts alike.
    attack
        Makes the images that the statistics are taken of, as in adversarial training; it runs
        in training mode, since the running statistics are not to be trusted yet.
    generator
        Of the attack's random starts.

    Raises
    ------
    ValueError
        If there is no batch.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over all batches
    seen = 0
    try:
        for x, y in batches:
            x_adv = x if attack is None else attack(network, x, y, generator=generator)
            with torch.no_grad():
                network(x_adv)
            seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(was_training)
    if not seen:
        raise ValueError("batches must hold at least one batch to take statistics of, got none.")
