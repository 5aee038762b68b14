"""The losses of the attacks against values computed by hand and loops from the papers."""

from __future__ import annotations

import math
import typing

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.attack import FGSM, LOSSES, MIM, PGD, ThreatModel, Transfer
from nni_robust.attack.loss import Loss, logits_at
from nni_robust.check import SettingError

LOGITS = torch.tensor(
    [[3.0, 1.0, 2.5, -4.0], [3.0, 1.0, 2.5, -4.0], [3.0, 1.0, 2.5, -4.0], [0.0, 0.0, 0.0, 0.0]]
)
Y = torch.tensor([0, 2, 3, 1])


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 4)
    )
    return network.double()


@pytest.fixture
def batch(network):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, network(x).argmax(1)


def test_the_table_contains_every_loss_of_the_annotation():
    assert set(LOSSES) == set(typing.get_args(Loss))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # By hand: the leads are 2.5 - 3, 3 - 2.5, 3 + 4 and 0, the spread of three is 3 - 1.
        ("cw", [-0.5, 0.5, 7.0, 0.0]),
        ("dlr", [-0.25, 0.25, 3.5, 0.0]),
        # The cross-entropy of equal logits is the logarithm of their number.
        (
            "cross_entropy",
            [*(torch.tensor([-3.0, -2.5, 4.0]) + LOGITS[0].logsumexp(0)), math.log(4)],
        ),
    ],
)
def test_a_loss_equals_the_value_computed_by_hand(name, expected):
    assert_close(LOSSES[name](LOGITS, Y), torch.tensor([float(loss) for loss in expected]))


def test_kl_is_the_divergence_between_clean_and_attacked_prediction():
    clean = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    expected = kl_divergence(Categorical(logits=clean), Categorical(logits=LOGITS))
    assert_close(LOSSES["kl"](LOGITS, clean), expected)
    assert not torch.allclose(LOSSES["kl"](clean, LOGITS), expected)


def test_neither_shift_nor_scale_of_the_logits_changes_dlr():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = torch.arange(20) % 5
    assert_close(LOSSES["dlr"](1e-3 * logits + 7, y), LOSSES["dlr"](logits, y))


@pytest.mark.parametrize("name", ["dlr", "cw"])
def test_a_margin_is_positive_exactly_if_the_network_errs(name):
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(4))
    y = torch.arange(50) % 5
    assert torch.equal(LOSSES[name](logits, y) > 0, logits.argmax(1) != y)


@pytest.mark.parametrize("name", ["dlr", "cw"])
def test_a_tie_of_all_logits_has_a_finite_gradient(name):
    logits = torch.zeros(2, 4, requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([0, 3])).sum()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def by_one_image_at_a_time(network, x, y, start, loss, epsilon, steps, step_size):
    """Run the ascent with the formulas of the papers, written for a single vector of logits."""
    attacked = []
    for image, label, image_adv in zip(x, y.tolist(), start, strict=True):
        clean = network(image[None])[0].detach()
        for _ in range(steps):
            image_adv = image_adv.detach().requires_grad_()
            z = network(image_adv[None])[0]
            wrong = max(z[j] for j in range(len(z)) if j != label)
            ranked = sorted(z, reverse=True)
            value = {
                "cross_entropy": -F.log_softmax(z, 0)[label],
                "cw": wrong - z[label],
                "dlr": -(z[label] - wrong) / (ranked[0] - ranked[2]),
                "kl": (clean.softmax(0) * (clean.log_softmax(0) - z.log_softmax(0))).sum(),
            }[loss]
            (gradient,) = torch.autograd.grad(value, image_adv)
            moved = image_adv.detach() + step_size * gradient.sign() - image
            image_adv = (image + moved.clamp(-epsilon, epsilon)).clamp(0, 1)
        attacked.append(image_adv)
    return torch.stack(attacked)


@pytest.mark.parametrize("loss", LOSSES)
def test_pgd_maximises_the_loss_that_it_names(network, batch, loss):
    # The ball is so small that the true class stays among the first two; otherwise dlr is constant.
    threat_model = ThreatModel(epsilon=0.02)
    attack = PGD(threat_model=threat_model, steps=6, step_size=0.006, loss=loss)
    start = threat_model.random_start(batch[0], torch.Generator().manual_seed(5))
    expected = by_one_image_at_a_time(network, *batch, start, loss, 0.02, 6, 0.006)
    x_adv = attack(network, *batch, generator=torch.Generator().manual_seed(5))
    assert_close(x_adv, expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "cw"])
def test_fgsm_is_one_step_on_the_loss_that_it_names(network, batch, loss):
    attack = FGSM(threat_model=ThreatModel(epsilon=0.1), loss=loss)
    expected = by_one_image_at_a_time(network, *batch, batch[0], loss, 0.1, 1, 0.1)
    assert_close(attack(network, *batch), expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "cw"])
def test_mim_without_momentum_is_pgd_for_every_loss(network, batch, loss):
    mim = MIM(steps=5, decay=0.0, loss=loss)
    pgd = PGD(steps=5, random_start=False, loss=loss)
    assert torch.equal(mim(network, *batch), pgd(network, *batch))


@pytest.mark.parametrize("loss", ["dlr", "cw"])
def test_a_margin_has_a_gradient_although_the_cross_entropy_is_saturated(network, batch, loss):
    # With logits so far apart, the cross-entropy and its gradient are 0 in floating point.
    network[-1].weight.data.mul_(1e6)
    network[-1].bias.data.mul_(1e6)
    x, _ = batch
    assert torch.equal(FGSM()(network, *batch), x)
    assert not torch.equal(FGSM(loss=loss)(network, *batch), x)


def test_restarts_compare_images_by_the_loss_of_the_attack(network, batch):
    x, y = batch
    one, many = (PGD(steps=1, step_size=1e-3, restarts=n, loss="kl") for n in (1, 5))
    generator = torch.Generator().manual_seed(6)
    runs = [one(network, x, y, generator=generator) for _ in range(5)]
    predictions = [Categorical(logits=network(x_adv)) for x_adv in runs]
    clean = Categorical(logits=network(x))
    moved = torch.stack([kl_divergence(clean, p) for p in predictions])  # (5, N)
    assert all(torch.equal(p.logits.argmax(1), y) for p in predictions)  # no image is misclassified
    expected = torch.stack([runs[run][n] for n, run in enumerate(moved.argmax(0))])
    assert torch.equal(many(network, x, y, generator=torch.Generator().manual_seed(6)), expected)


def test_logits_of_lower_precision_are_cast_to_the_dtype_of_the_images():
    x = torch.zeros(2, 1, 1, 1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(x).dtype == torch.bfloat16
        logits = logits_at(x, network)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (FGSM(), "fgsm"),
        (FGSM(loss="cw"), "fgsm_cw"),
        (PGD(), "pgd20"),
        (PGD(steps=7, loss="dlr"), "pgd7_dlr"),
        (PGD(restarts=5, loss="kl"), "pgd20x5_kl"),
        (MIM(loss="cw"), "mim20_cw"),
        (Transfer(source=nn.Identity(), attack=PGD(loss="cw")), "transfer_pgd20_cw"),
    ],
)
def test_the_name_contains_a_loss_other_than_cross_entropy(attack, name):
    assert attack.name == name


@pytest.mark.parametrize("attack", [FGSM, MIM, PGD])
def test_an_unknown_loss_is_refused(attack):
    with pytest.raises(SettingError, match=r"loss must be one of \['cross_entropy'.*, got 'hinge'"):
        attack(loss="hinge")


@pytest.mark.parametrize(
    ("attack", "start"), [(FGSM, {}), (MIM, {}), (PGD, {"random_start": False})]
)
def test_kl_is_refused_without_a_random_start(attack, start):
    with pytest.raises(
        SettingError, match=r"loss must not be 'kl' if .* Use PGD with random_start"
    ):
        attack(loss="kl", **start)


def test_dlr_is_refused_for_two_classes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(SettingError, match=r"loss must not be 'dlr' .* \(5, 2\)\. Use 'cw'"):
        PGD(loss="dlr")(network, torch.zeros(5, 3, 2, 2), torch.zeros(5).long())


def test_cw_is_refused_for_one_class():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    with pytest.raises(SettingError, match=r"network must return logits of .* \(5, 1\)"):
        PGD(loss="cw")(network, torch.zeros(5, 3, 2, 2), torch.zeros(5).long())
