"""Batch-norm statistics are plain averages over the given batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import PGD, ThreatModel
from nni_robust.training import reestimate_batch_norm

BATCHES = [
    (torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(i)), torch.arange(6) % 3)
    for i in range(3)
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3)).eval()


def test_statistics_are_the_averages_over_the_batches():
    net = network()
    net[0].running_mean.fill_(7.0)
    reestimate_batch_norm(net, BATCHES)
    means = torch.stack([x.mean((0, 2, 3)) for x, _ in BATCHES]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x, _ in BATCHES]).mean(0)
    assert_close(net[0].running_mean, means)
    assert_close(net[0].running_var, variances)


def test_mode_momentum_and_weights_are_left_as_found():
    net = network()
    weights = [parameter.clone() for parameter in net.parameters()]
    reestimate_batch_norm(net, BATCHES, attack=PGD(steps=1))
    assert not net.training
    assert net[0].momentum == 0.1
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), weights, strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_statistics_are_those_of_attacked_images():
    attack = PGD(threat_model=ThreatModel(epsilon=0.3), steps=2, step_size=0.3, random_start=False)
    net, other = network(), network()
    reestimate_batch_norm(net, BATCHES, attack=attack)
    other.train()
    attacked = [attack(other, x, y) for x, y in BATCHES]
    means = torch.stack([x.mean((0, 2, 3)) for x in attacked]).mean(0)
    assert_close(net[0].running_mean, means)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        reestimate_batch_norm(network(), [])


def test_a_mixture_of_modes_is_left_as_found():
    net = nn.Sequential(nn.Dropout(0.5), network()).train()
    net[0].eval()
    before = [module.training for module in net.modules()]
    reestimate_batch_norm(net, BATCHES)
    assert [module.training for module in net.modules()] == before
