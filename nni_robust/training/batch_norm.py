"""Batch-norm statistics for a network whose weights were inherited or averaged."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from nni_robust.attack import Attack
from nni_robust.network_state import kept_modes


def reestimate_batch_norm(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    attack: Attack | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Replace the running statistics of every batch norm by averages over some batches.

    A subnetwork inherits statistics that mix all subnetworks ever trained. Until they are replaced,
    its accuracy says nothing about its weights.

    Parameters
    ----------
    network
        Changed in place, but only its running means and variances.
    batches
        Images and labels. Every batch has the same weight.
    attack
        Attack of the images, as in adversarial training; None takes them unattacked. It runs in
        training mode, because the running statistics cannot be trusted yet.
    generator
        Source of the attack's random starts.

    Raises
    ------
    ValueError
        If there is no batch.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches must hold at least one batch to take statistics of, got none.")

    def attacked() -> Iterator[Tensor]:
        for x, y in itertools.chain([first], batches):
            yield x if attack is None else attack(network, x, y, generator=generator)

    with kept_modes(network):
        update_bn(attacked(), network)
