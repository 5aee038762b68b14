"""DeepFool against the closed form of the nearest boundary of an affine classifier.

test_against_foolbox.py compares its steps on other networks with those of foolbox.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import DeepFool, ThreatModel
from nni_robust.check import SettingError

NUDGE = 1e-4  # the code of the paper adds this to every distance


@pytest.fixture
def affine():
    """Return an affine network with more classes than one backward pass differentiates."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 40)).double()
    # With these weights, the nearest boundary is not always that of the most likely rival.
    network[1].weight.data.mul_(torch.linspace(0.5, 3, 40, dtype=torch.float64).unsqueeze(1))
    grey = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    network[1].bias.data -= network(grey)[0].detach()  # images around grey belong to many classes
    return network


@pytest.fixture
def batch(affine):
    generator = torch.Generator().manual_seed(1)
    x = 0.4 + 0.2 * torch.rand(16, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x, affine(x).argmax(1)


@pytest.fixture
def network():
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(384, 5),
    )
    return network.double().eval()


@pytest.fixture
def images(network):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(8, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, network(x).argmax(1)


class Stubborn(nn.Module):
    """Raise the logit of the label above all others without changing the gradients."""

    def __init__(self, y):
        super().__init__()
        self.y = y

    def forward(self, logits):
        return logits + 1e6 * nn.functional.one_hot(self.y, logits.shape[1])


def nearest(affine, image, label, norm, rivals):
    """Return distance and unit direction of the nearest boundary between label and rivals."""
    weight, bias = affine[1].weight.detach(), affine[1].bias.detach()
    found = []
    for rival in rivals:
        if rival == label:
            continue
        w, b = weight[rival] - weight[label], bias[rival] - bias[label]
        lead = -(w @ image.flatten() + b)
        length, direction = (
            (w.abs().sum(), w.sign()) if norm == "linf" else (w.norm(), w / w.norm())
        )
        found.append((float(lead / length), direction.view_as(image)))
    return min(found, key=lambda pair: pair[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("overshoot", [0.0, 0.02, 0.5])
def test_one_step_crosses_the_nearest_boundary_of_an_affine_model(affine, batch, norm, overshoot):
    attack = DeepFool(
        threat_model=ThreatModel(norm=norm, epsilon=1.0), overshoot=overshoot, num_classes=40
    )
    x_adv = attack(affine, *batch)
    for image, label, image_adv in zip(*batch, x_adv, strict=True):
        distance, direction = nearest(affine, image, int(label), norm, range(40))
        assert_close(image_adv, image + (1 + overshoot) * (distance + NUDGE) * direction)
    assert (affine(x_adv).argmax(1) != batch[1]).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_to_a_boundary_out_of_reach_is_projected_onto_the_ball(affine, batch, norm):
    x_adv = DeepFool(threat_model=ThreatModel(norm=norm, epsilon=1e-5), num_classes=40)(
        affine, *batch
    )
    for image, label, image_adv in zip(*batch, x_adv, strict=True):
        distance, direction = nearest(affine, image, int(label), norm, range(40))
        assert distance > 1e-5
        assert_close(image_adv, image + 1e-5 * direction)


def test_only_the_most_likely_classes_are_considered(affine, batch):
    threat_model = ThreatModel(norm="l2", epsilon=1.0)
    x_adv = DeepFool(threat_model=threat_model, num_classes=2)(affine, *batch)
    ranked = affine(batch[0]).argsort(1, descending=True)[:, :2]
    closer = 0
    for n, (image, label) in enumerate(zip(*batch, strict=True)):
        distance, _ = nearest(affine, image, int(label), "l2", ranked[n].tolist())
        closer += nearest(affine, image, int(label), "l2", range(40))[0] < distance
        assert_close(float((x_adv[n] - image).norm()), 1.02 * (distance + NUDGE))
    assert closer > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_scale_of_the_logits_does_not_matter(network, images, norm):
    attack = DeepFool(threat_model=ThreatModel(norm=norm, epsilon=1.0))
    expected = attack(network, *images)
    network[-1].weight.data.mul_(1e-30)
    network[-1].bias.data.mul_(1e-30)
    assert_close(attack(network, *images), expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_batch_gives_the_same_as_its_images_one_by_one(network, images, norm):
    attack = DeepFool(threat_model=ThreatModel(norm=norm, epsilon=1.0))
    alone = [attack(network, x[None], y[None]) for x, y in zip(*images, strict=True)]
    assert_close(attack(network, *images), torch.cat(alone))


def test_a_misclassified_image_stays_unchanged(network, images):
    x, y = images
    wrong = (y + torch.arange(8) % 2) % 5  # every second label is wrong
    x_adv = DeepFool()(network, x, wrong)
    assert torch.equal(x_adv[1::2], x[1::2])
    assert not any(torch.equal(a, b) for a, b in zip(x_adv[::2], x[::2], strict=True))


def test_misclassified_images_leave_the_batch(network, images):
    seen = []
    network[0].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x, y = images
    DeepFool()(network, x, (y + torch.arange(8) % 2) % 5)
    # First all images; then, in every step, one pass for gradients and one for the predictions.
    assert seen[:3] == [8, 4, 4]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) < 1 + 2 * 50


def test_it_takes_no_more_than_the_given_number_of_steps(network, images):
    seen = []
    network[0].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x, y = images
    DeepFool(steps=3)(nn.Sequential(network, Stubborn(y)), x, y)
    assert seen == [8] * (1 + 2 * 3)


def test_an_image_on_the_boundary_crosses_it():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    network[1].weight.data.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))
    network[1].bias.data.copy_(torch.tensor([-2.0, 2.0]))
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    assert network(x)[0, 0] == network(x)[0, 1]
    x_adv = DeepFool()(network, x, y)
    assert network(x_adv).argmax(1) == 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_logits_without_a_gradient_leave_the_image_unchanged(norm):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    network[1].weight.data.zero_()
    network[1].bias.data.copy_(torch.tensor([100.0, 0.0, -100.0]))
    x, y = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(4)), torch.tensor([0, 0])
    assert torch.equal(DeepFool(threat_model=ThreatModel(norm=norm))(network, x, y), x)


def test_under_autocast_it_crosses_boundaries_behind_batch_norm(network, images):
    network, x = network.float(), images[0].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x).argmax(1)
        x_adv = DeepFool(threat_model=ThreatModel(epsilon=0.5))(network, x, y)
        assert (network(x_adv).argmax(1) != y).all()


def test_the_name_contains_the_number_of_steps():
    assert DeepFool().name == "deepfool50"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2, got 1"),
        ({"num_classes": True}, "num_classes must be a whole number of at least 2, got True"),
        ({"overshoot": -0.1}, "overshoot must be a number of at least 0, got -0.1"),
        ({"overshoot": float("nan")}, "overshoot must be a number of at least 0, got nan"),
        ({"overshoot": False}, "overshoot must be a number of at least 0, got False"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        DeepFool(**settings)


def test_a_network_with_one_class_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    with pytest.raises(SettingError, match="network must return logits of at least 2 classes"):
        DeepFool()(network, torch.zeros(1, 3, 2, 2), torch.zeros(1).long())
