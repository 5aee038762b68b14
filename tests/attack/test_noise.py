"""Noise: its distribution, its repeats and invalid settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import Noise, ThreatModel
from nni_robust.check import SettingError

LINF, L2 = ThreatModel(epsilon=0.1), ThreatModel(norm="l2", epsilon=0.5)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 4))


@pytest.fixture
def batch(network):
    # Grey enough for the noise to stay in [0, 1]; every second label is wrong.
    x = 0.4 + 0.2 * torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return x, (network(x).argmax(1) + torch.arange(10) % 2) % 4


def test_noise_in_linf_has_the_moments_of_a_uniform_distribution(network):
    x = torch.full((50, 3, 20, 20), 0.5)
    noise = Noise(threat_model=LINF, repeats=1)(network, x, torch.zeros(50).long()) - x
    # 60,000 draws from [-0.1, 0.1]; the tolerance is four standard errors.
    assert abs(float(noise.mean())) < 4 * 0.1 / (3 * 60_000) ** 0.5
    assert float(noise.square().mean()) == pytest.approx(0.1**2 / 3, rel=4 * 0.9 / 60_000**0.5)
    assert float(noise.abs().max()) == pytest.approx(0.1, rel=1e-3)


def test_noise_in_l2_has_length_epsilon(network, batch):
    x, y = batch
    noise = Noise(threat_model=L2)(network, x, y) - x
    assert_close(noise.flatten(1).norm(dim=1), torch.full((10,), 0.5))


@pytest.mark.parametrize("threat_model", [LINF, L2], ids=repr)
def test_repeats_keep_the_draw_with_the_largest_lead_of_a_wrong_class(network, batch, threat_model):
    x, y = batch
    generator = torch.Generator().manual_seed(2)
    one = Noise(threat_model=threat_model, repeats=1)
    draws = [one(network, x, y, generator=generator) for _ in range(6)]
    expected = []
    for n, label in enumerate(y.tolist()):
        leads = []
        for draw in draws:
            logits = network(draw[n : n + 1])[0].tolist()
            leads.append(max(logits[:label] + logits[label + 1 :]) - logits[label])
        expected.append(draws[leads.index(max(leads))][n])
    many = Noise(threat_model=threat_model, repeats=6)
    x_adv = many(network, x, y, generator=torch.Generator().manual_seed(2))
    assert torch.equal(x_adv, torch.stack(expected))


def test_a_single_draw_does_not_run_the_network(network, batch):
    calls = []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    Noise(repeats=1)(network, *batch)
    assert not calls


def test_the_name_contains_the_number_of_draws():
    assert Noise(repeats=10).name == "noise10"


@pytest.mark.parametrize("repeats", [0, True])
def test_an_invalid_number_of_draws_is_refused(repeats):
    message = f"repeats must be a whole number of at least 1, got {repeats}"
    with pytest.raises(SettingError, match=message):
        Noise(repeats=repeats)
