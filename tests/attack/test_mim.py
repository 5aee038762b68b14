"""MI-FGSM against a loop written from its paper.

foolbox takes the sign of every gradient before it is accumulated, where Dong et al. (2018), Eq. 6,
divide it by its l_1 norm; so it is no reference here.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.attack import MIM, PGD, ThreatModel


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
    """Attack one image after the other, Eq. 6-7, and Eq. 9 in l_2."""
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
def test_mim_is_that_of_the_paper(network, batch, norm, epsilon, step_size, decay):
    attack = MIM(
        threat_model=ThreatModel(norm=norm, epsilon=epsilon),
        steps=8,
        step_size=step_size,
        decay=decay,
    )
    expected = by_the_paper(network, *batch, norm, epsilon, 8, step_size, decay)
    assert_close(attack(network, *batch), expected)


def test_without_momentum_it_is_pgd_from_the_image(network, batch):
    assert torch.equal(
        MIM(steps=5, decay=0.0)(network, *batch), PGD(steps=5, random_start=False)(network, *batch)
    )


@pytest.mark.parametrize("decay", [-0.1, float("nan"), float("inf")])
def test_a_decay_that_is_no_factor_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay must be at least 0, got {decay}"):
        MIM(decay=decay)


def test_steps_that_cannot_be_taken_are_refused_by_mim():
    with pytest.raises(ValueError, match="steps must be a whole number"):
        MIM(steps=0)
