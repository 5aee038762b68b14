"""FGSM, PGD and DeepFool against the implementations of foolbox."""

from __future__ import annotations

import foolbox
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import FGSM, PGD, DeepFool, ThreatModel


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 4),
    )
    # In double precision, so that rounding does not decide the sign of a gradient near 0.
    return network.double().eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(8, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (8,), generator=generator)


def by_foolbox(attack, network, batch, **budget):
    x, y = batch
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    return attack.run(model, x, foolbox.criteria.Misclassification(y), **budget)


@pytest.mark.parametrize(
    ("norm", "epsilon", "reference"),
    [
        ("linf", 8 / 255, foolbox.attacks.LinfFastGradientAttack()),
        ("linf", 0.3, foolbox.attacks.LinfFastGradientAttack()),
        ("l2", 0.5, foolbox.attacks.L2FastGradientAttack()),
        ("l2", 5.0, foolbox.attacks.L2FastGradientAttack()),
    ],
)
def test_fgsm_agrees_with_foolbox(network, batch, norm, epsilon, reference):
    attack = FGSM(threat_model=ThreatModel(norm=norm, epsilon=epsilon))
    expected = by_foolbox(reference, network, batch, epsilon=epsilon)
    assert_close(attack(network, *batch), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("norm", "epsilon", "step_size", "reference"),
    [
        ("linf", 8 / 255, 2 / 255, foolbox.attacks.LinfProjectedGradientDescentAttack),
        ("linf", 0.3, 0.1, foolbox.attacks.LinfProjectedGradientDescentAttack),
        ("l2", 0.5, 0.125, foolbox.attacks.L2ProjectedGradientDescentAttack),
        ("l2", 5.0, 1.0, foolbox.attacks.L2ProjectedGradientDescentAttack),
    ],
)
def test_pgd_agrees_with_foolbox(network, batch, norm, epsilon, step_size, reference):
    attack = PGD(
        threat_model=ThreatModel(norm=norm, epsilon=epsilon),
        steps=10,
        step_size=step_size,
        random_start=False,
    )
    expected = by_foolbox(
        reference(abs_stepsize=step_size, steps=10, random_start=False),
        network,
        batch,
        epsilon=epsilon,
    )
    assert_close(attack(network, *batch), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize(
    ("norm", "reference"),
    [("linf", foolbox.attacks.LinfDeepFoolAttack), ("l2", foolbox.attacks.L2DeepFoolAttack)],
)
def test_deepfool_agrees_with_foolbox(network, batch, norm, reference, steps, num_classes):
    x, y = batch
    y[::2] = network(x).argmax(1)[::2]
    # A ball that contains every image: radius 1 in linf, the diagonal of the unit cube in l2.
    epsilon = 1.0 if norm == "linf" else x[0].numel() ** 0.5
    attack = DeepFool(
        threat_model=ThreatModel(norm=norm, epsilon=epsilon), steps=steps, num_classes=num_classes
    )
    expected = by_foolbox(reference(steps=steps, candidates=num_classes), network, (x, y))
    assert_close(attack(network, x, y), expected, atol=1e-6, rtol=0)
