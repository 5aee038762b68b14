"""Modes and running statistics are left as they were found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_robust.network_state import evaluation_mode, held_statistics, kept_modes


@pytest.fixture
def mixed():
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    network[0].eval()
    return network


def modes(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


def test_a_mixture_of_modes_is_given_back(mixed):
    before = modes(mixed)
    with evaluation_mode(mixed):
        assert modes(mixed) == [False] * 4
    assert modes(mixed) == before
    with kept_modes(mixed):
        mixed[0].train()
    assert modes(mixed) == before


def test_modes_are_given_back_after_an_error(mixed):
    before = modes(mixed)
    with pytest.raises(KeyError), evaluation_mode(mixed):
        raise KeyError
    assert modes(mixed) == before


def test_held_statistics_normalise_by_the_batch_and_change_nothing(mixed):
    x = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    norm = mixed[1]
    with held_statistics(mixed):
        held = norm(x)
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert norm.num_batches_tracked == 0
    assert torch.equal(held, norm(x))
    assert norm.num_batches_tracked == 1


def test_a_norm_that_keeps_no_statistics_keeps_none_afterwards():
    network = nn.BatchNorm1d(2, track_running_stats=False)
    with held_statistics(network):
        pass
    assert not network.track_running_stats
