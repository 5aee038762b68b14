"""MI-FGSM against a loop written from its paper.

foolbox cannot be the reference: it takes the sign of every gradient before accumulating it, while
Dong et al. (2018), Eq. 6, divide the gradient by its l_1 norm.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.attack import MIM, PGD, ThreatModel
from nni_robust.check import SettingError


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 4)
    )
    return network.double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (4,), generator=generator)


def by_the_paper(network, x, y, norm, epsilon, steps, step_size, decay):
    """Attack one image after the other by Eq. 6-7, in l_2 by Eq. 9."""
    attacked = []
    for image, label in zip(x, y, strict=True):
        image_adv, momentum = image.clone(), torch.zeros_like(image)
        for _ in range(steps):
            image_adv.requires_grad_()
            loss = F.cross_entropy(network(image_adv[None]), label[None])
            (gradient,) = torch.autograd.grad(loss, image_adv)
            momentum = decay * momentum + gradient / gradient.abs().sum()
            step = momentum.sign() if norm == "linf" else momentum / momentum.square().sum().sqrt()
            moved = image_adv.detach() + step_size * step - image
            if norm == "linf":
                moved = moved.clamp(-epsilon, epsilon)
            elif moved.norm() > epsilon:
                moved = moved * epsilon / moved.norm()
            image_adv = (image + moved).clamp(0, 1)
        attacked.append(image_adv)
    return torch.stack(attacked)


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("norm", "epsilon", "step_size"), [("linf", 0.1, 0.03), ("l2", 1.0, 0.3)])
def test_mim_follows_the_equations_of_the_paper(network, batch, norm, epsilon, step_size, decay):
    attack = MIM(
        threat_model=ThreatModel(norm=norm, epsilon=epsilon),
        steps=8,
        step_size=step_size,
        decay=decay,
    )
    expected = by_the_paper(network, *batch, norm, epsilon, 8, step_size, decay)
    assert_close(attack(network, *batch), expected)


def test_mim_without_momentum_is_pgd_without_a_random_start(network, batch):
    assert torch.equal(
        MIM(steps=5, decay=0.0)(network, *batch), PGD(steps=5, random_start=False)(network, *batch)
    )


@pytest.mark.parametrize("decay", [-0.1, float("nan"), float("inf"), True])
def test_an_invalid_decay_is_refused(decay):
    with pytest.raises(SettingError, match=f"decay must be a number of at least 0, got {decay}"):
        MIM(decay=decay)


def test_an_invalid_number_of_steps_is_refused_by_mim():
    with pytest.raises(SettingError, match="steps must be a whole number"):
        MIM(steps=0)
