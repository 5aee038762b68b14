"""The transfer attack: the images come from the source alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Noise, ThreatModel, Transfer


def build(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()


@pytest.fixture
def source():
    return build(0)


@pytest.fixture
def target():
    return build(1)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    return torch.rand(4, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=3), Noise(repeats=2)], ids=repr)
def test_a_transfer_returns_what_the_attack_makes_on_the_source(source, target, batch, attack):
    seeds = [torch.Generator().manual_seed(3) for _ in range(3)]
    x_adv = Transfer(source=source, attack=attack)(target, *batch, generator=seeds[0])
    assert torch.equal(x_adv, attack(source, *batch, generator=seeds[1]))
    assert not torch.equal(x_adv, attack(target, *batch, generator=seeds[2]))


def test_the_attacked_network_is_not_run(source, target, batch):
    calls = []
    target.register_forward_pre_hook(lambda *_: calls.append(1))
    Transfer(source=source)(target, *batch)
    assert not calls


def test_the_source_stays_unchanged(source, target, batch):
    source[0].weight.requires_grad_(False)
    source[4].weight.grad = torch.ones_like(source[4].weight)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    Transfer(source=source, attack=PGD(steps=2))(target.train(), *batch)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
    assert not any(module.training for module in source.modules())
    assert not source[0].weight.requires_grad
    assert source[0].bias.grad is None
    assert torch.equal(source[4].weight.grad, torch.ones_like(source[4].weight))


def test_a_source_in_training_mode_is_refused(source, target, batch):
    attack = Transfer(source=source)
    source.train()
    with pytest.raises(RuntimeError, match=r"source must be in evaluation mode .*source\.eval\(\)"):
        attack(target, *batch)
    assert source.training


def test_the_threat_model_is_that_of_the_attack(source):
    threat_model = ThreatModel(norm="l2", epsilon=0.25)
    attack = Transfer(source=source, attack=PGD(threat_model=threat_model))
    assert attack.threat_model == threat_model
    weaker = dataclasses.replace(attack, attack=FGSM())
    assert weaker.threat_model == ThreatModel()


def test_the_name_contains_that_of_the_attack(source):
    assert Transfer(source=source, attack=PGD(steps=100)).name == "transfer_pgd100"


def test_transfers_are_equal_only_if_their_source_is_the_same(source, target):
    assert Transfer(source=source) == Transfer(source=source)
    assert hash(Transfer(source=source)) == hash(Transfer(source=source))
    assert Transfer(source=source) != Transfer(source=target)
