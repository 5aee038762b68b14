"""Objectives against plain formulas, and the attacks that they need."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import FGSM, PGD, ThreatModel
from nni_robust.training.loss import mart_loss, trades_loss
from nni_robust.training.objective import (
    MART,
    OBJECTIVES,
    PGDAT,
    TRADES,
    Clean,
    Fast,
    Free,
)

THREAT = ThreatModel(epsilon=0.1)
Y = torch.tensor([2, 0, 1, 1, 0])


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, attacked = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) * 2
    return clean, attacked


def softmax(row: torch.Tensor) -> list[float]:
    powers = [math.exp(value) for value in row.tolist()]
    return [power / sum(powers) for power in powers]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_trades_is_the_error_on_clean_images_and_the_divergence(logits):
    rows = [(softmax(a), softmax(b), int(y)) for a, b, y in zip(*logits, Y, strict=True)]
    expected = sum(-math.log(p[y]) + 6 * divergence(p, q) for p, q, y in rows) / len(rows)
    assert trades_loss(*logits, Y, beta=6).item() == pytest.approx(expected)


def test_trades_smooths_the_labels_of_the_clean_error_alone(logits):
    rows = [(softmax(a), softmax(b), int(y)) for a, b, y in zip(*logits, Y, strict=True)]
    expected = 0.0
    for p, q, y in rows:
        target = [0.1 + 0.7 * (k == y) for k in range(3)]  # 0.3 spread over three classes
        expected += -sum(t * math.log(a) for t, a in zip(target, p, strict=True))
        expected += 2 * divergence(p, q)
    loss = trades_loss(*logits, Y, beta=2, label_smoothing=0.3)
    assert loss.item() == pytest.approx(expected / len(rows))


def test_mart_boosts_the_margin_and_weighs_the_divergence_by_doubt(logits):
    expected = 0.0
    for a, b, y in zip(*logits, Y.tolist(), strict=True):
        p, q = softmax(a), softmax(b)
        rival = max(q[k] for k in range(3) if k != y)
        expected += -math.log(q[y]) - math.log(1 - rival) + 5 * divergence(p, q) * (1 - p[y])
    assert mart_loss(*logits, Y, beta=5).item() == pytest.approx(expected / len(Y))


def test_mart_stays_finite_where_the_network_is_sure_and_wrong():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = mart_loss(logits, logits, torch.tensor([1]), beta=5)
    loss.backward()
    # -ln p_y = 200, and 1 minus the rival's probability is 2 exp(-200).
    assert loss.item() == pytest.approx(400 - math.log(2), rel=1e-5)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_returns_a_loss_and_the_logits_for_the_accuracy(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, x_adv = torch.rand(2, 5, 1, 2, 2)
    objective = OBJECTIVES[name]()
    assert objective.name == name
    loss, logits = objective.loss(network, x, x_adv, Y, label_smoothing=0.0)
    assert loss.shape == ()
    assert_close(logits, network(x if name == "clean" else x_adv))


@pytest.mark.parametrize("name", ["pgd_at", "fast", "free"])
def test_the_plain_objectives_are_the_cross_entropy_of_attacked_images(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, x_adv = torch.rand(2, 5, 1, 2, 2)
    loss, _ = OBJECTIVES[name]().loss(network, x, x_adv, Y, label_smoothing=0.0)
    shares = network(x_adv).softmax(1).detach()
    expected = -sum(math.log(shares[i, y]) for i, y in enumerate(Y.tolist())) / len(Y)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_trades_lets_the_attack_maximise_the_divergence():
    attack = PGD(threat_model=THREAT, steps=3)
    assert TRADES().attack(attack) == PGD(threat_model=THREAT, steps=3, loss="kl")


def test_fast_takes_one_step_of_five_quarters_of_epsilon_from_a_random_point():
    attack = Fast().attack(PGD(threat_model=ThreatModel(epsilon=8 / 255)))
    assert (attack.steps, attack.random_start) == (1, True)
    assert attack.step_size == pytest.approx(10 / 255)  # as in Wong et al.


def test_clean_training_attacks_nothing():
    assert Clean().attack(PGD()) is None
    assert PGDAT().attack(None) is None


@pytest.mark.parametrize("objective", [TRADES(), MART(), Fast(), Free()])
def test_an_objective_that_needs_an_attack_refuses_none(objective):
    with pytest.raises(ValueError, match=f"an attack for the objective '{objective.name}'"):
        objective.attack(None)


def test_trades_refuses_an_attack_that_cannot_maximise_the_divergence():
    with pytest.raises(ValueError, match=r"train_attack must be a PGD.*got a FGSM"):
        TRADES().attack(FGSM())


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (TRADES, {"beta": -1.0}, "beta must not be negative, got -1.0"),
        (MART, {"beta": math.nan}, "beta must not be negative, got nan"),
        (Fast, {"step_share": 0.0}, "step_share must be positive, got 0.0"),
        (Fast, {"guard": 0.0}, r"guard must lie in \(0, 1\], got 0.0"),
        (Free, {"replays": 0}, "replays must be a whole number of at least 1, got 0"),
        (Free, {"step_share": -1.0}, "step_share must be positive"),
    ],
)
def test_invalid_objectives_are_refused(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)
