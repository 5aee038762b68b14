"""PGD: batch statistics, random starts, restarts and invalid settings."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.attack import PGD, ThreatModel
from nni_robust.check import SettingError


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 4),
    ).double()


@pytest.fixture
def batch(network):
    """Return images and labels; every fifth label is wrong."""
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = network.eval()(x).argmax(1)
    y[::5] = (y[::5] + 1) % 4
    return x, y


def damage(network, x_adv, y):
    with torch.no_grad():
        logits = network(x_adv)
    losses = F.cross_entropy(logits, y, reduction="none")
    return list(zip((logits.argmax(1) != y).tolist(), losses.tolist(), strict=True))


def test_in_training_mode_every_gradient_uses_the_statistics_of_the_batch(network, batch):
    x, y = batch
    attack = PGD(threat_model=ThreatModel(epsilon=0.1), steps=5, step_size=0.03, random_start=False)
    trained = copy.deepcopy(network).train()
    x_adv = x.clone()
    for _ in range(5):
        x_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(trained(x_adv), y), x_adv)
        x_adv = (x_adv + 0.03 * gradient.sign()).detach()
        x_adv = torch.min(torch.max(x_adv, x - 0.1), x + 0.1).clamp(0, 1)
    assert_close(attack(network.train(), x, y), x_adv)
    assert not torch.equal(attack(network.eval(), x, y), x_adv)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_gradient_is_taken_at_the_random_start(network, batch, norm):
    x, y = batch
    threat_model = ThreatModel(norm=norm, epsilon=0.2)
    seen = []
    network[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    attack = PGD(threat_model=threat_model, steps=1)
    attack(network, x, y, generator=torch.Generator().manual_seed(2))
    start = threat_model.random_start(x, torch.Generator().manual_seed(2))
    assert torch.equal(seen[0], start)
    assert float(seen[0].min()) >= 0
    assert float(seen[0].max()) <= 1


def test_restarts_keep_the_worst_image(network, batch):
    x, y = batch
    # So weak that only some starts fool the network.
    one = PGD(threat_model=ThreatModel(epsilon=0.3), steps=1, step_size=0.01)
    many = PGD(threat_model=ThreatModel(epsilon=0.3), steps=1, step_size=0.01, restarts=6)
    generator = torch.Generator().manual_seed(3)
    runs = [one(network, x, y, generator=generator) for _ in range(6)]
    scores = [damage(network, x_adv, y) for x_adv in runs]
    worst = [max(range(6), key=lambda run: scores[run][n]) for n in range(16)]
    expected = torch.stack([runs[run][n] for n, run in enumerate(worst)])
    assert len(set(worst)) > 2
    assert torch.equal(many(network, x, y, generator=torch.Generator().manual_seed(3)), expected)


@pytest.mark.parametrize(("seed", "first_fools"), [(0, True), (4, False)])
def test_a_misclassified_image_is_kept_rather_than_one_with_a_larger_loss(seed, first_fools):
    # With label 0, a dark image is misclassified at loss ln(1 + e^0.1) = 0.74. A bright one is
    # classified correctly at loss ln(e^0.1 + 7) - 0.1 = 1.99, because seven classes come close.
    class Table(nn.Module):
        def forward(self, x):
            bright = x.mean((1, 2, 3)).sub(0.5).mul(1e4).sigmoid()[:, None]
            of_dark = torch.tensor([[0.0, 0.1] + [-9.0] * 6])
            of_bright = torch.tensor([[0.1] + [0.0] * 7])
            return (1 - bright) * of_dark + bright * of_bright

    x, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    many = PGD(threat_model=ThreatModel(epsilon=0.4), steps=1, step_size=1e-6, restarts=10)
    one = PGD(threat_model=ThreatModel(epsilon=0.4), steps=1, step_size=1e-6)
    generator = torch.Generator().manual_seed(seed)
    scores = [damage(Table(), one(Table(), x, y, generator=generator), y)[0] for _ in range(10)]
    assert scores[0][0] == first_fools
    assert {fooled for fooled, _ in scores[1:]} == {False, True}
    assert not scores[-1][0]
    kept = many(Table(), x, y, generator=torch.Generator().manual_seed(seed))
    assert damage(Table(), kept, y)[0] == max(scores)


@pytest.mark.parametrize("steps", [0, -1, 2.5, True])
def test_an_invalid_number_of_steps_is_refused(steps):
    with pytest.raises(SettingError, match=f"steps must be a whole number .* got {steps}"):
        PGD(steps=steps)


@pytest.mark.parametrize("step_size", [0.0, -0.1, float("nan"), float("inf"), True])
def test_a_step_size_that_is_not_positive_is_refused(step_size):
    message = f"step_size must be a positive number, .* got {step_size}"
    with pytest.raises(SettingError, match=message):
        PGD(step_size=step_size)


@pytest.mark.parametrize("restarts", [0, 1.5, True])
def test_an_invalid_number_of_restarts_is_refused(restarts):
    with pytest.raises(SettingError, match=f"restarts must be a whole number .* got {restarts}"):
        PGD(restarts=restarts)


def test_restarts_without_a_random_start_are_refused():
    with pytest.raises(SettingError, match="restarts must be 1 without a random start, got 3"):
        PGD(restarts=3, random_start=False)
