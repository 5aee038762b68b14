"""AutoAttack's attacks against the library's own evaluation, and the settings they refuse."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from nni_robust.attack import APGD_CE, APGD_T, FAB_T, PGD, Square, ThreatModel
from nni_robust.check import SettingError
from nni_robust.data import Digits
from nni_robust.evaluator.robustness import measure_robustness
from nni_robust.evaluator.suite import TIERS

PARTS = {"apgd-ce": APGD_CE, "apgd-t": APGD_T, "fab-t": FAB_T, "square": Square}
LINF = ThreatModel(epsilon=0.15)
L2 = ThreatModel(norm="l2", epsilon=0.8)


@pytest.fixture(scope="module")
def trained():
    """Train a small network on digits adversarially for a few seconds."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    x, y = Digits().examples("train", 600)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    attack = PGD(threat_model=LINF, steps=3, step_size=0.1)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(12):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(100):
            x_adv = attack(network, x[batch], y[batch], generator=generator)
            loss = nn.functional.cross_entropy(network(x_adv), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def theirs(network, x, y, threat_model, *, names, seed, batch_size, queries):
    """Return which images withstand the library's own evaluation."""
    norm = {"linf": "Linf", "l2": "L2"}[threat_model.norm]
    adversary = AutoAttack(
        network, norm=norm, eps=threat_model.epsilon, version="standard", seed=seed
    )
    adversary.attacks_to_run = names
    adversary.square.n_queries = queries
    with torch.random.fork_rng():
        _, predicted = adversary.run_standard_evaluation(x, y, batch_size=batch_size)
    return (predicted == y).tolist()


@pytest.mark.parametrize(
    ("name", "threat_model"),
    [
        ("apgd-ce", LINF),
        ("apgd-ce", L2),
        ("apgd-t", LINF),
        pytest.param("apgd-t", L2, marks=pytest.mark.slow),
        ("fab-t", LINF),
        pytest.param("fab-t", L2, marks=pytest.mark.slow),
        ("square", LINF),
        ("square", L2),
    ],
    ids=str,
)
def test_an_attack_fools_exactly_the_images_that_the_library_fools(trained, name, threat_model):
    x, y = Digits().examples("test", 30)
    few = {"queries": 100} if name == "square" else {}
    attack = PARTS[name](threat_model=threat_model, **few)
    result = measure_robustness(trained, x, y, attacks=[attack], batch_size=16, seed=3)
    expected = theirs(trained, x, y, threat_model, names=[name], seed=3, batch_size=16, queries=100)
    assert result.robust_mask == expected
    assert result.outcomes["clean"].count("1") > sum(expected) > 0  # the attack decided something


@pytest.mark.slow
@pytest.mark.parametrize("threat_model", [LINF, L2], ids=["linf", "l2"])
def test_the_full_tier_agrees_with_the_standard_version_on_every_image(trained, threat_model):
    x, y = Digits().examples("test", 40)
    suite = TIERS["full"](threat_model)
    result = measure_robustness(trained, x, y, attacks=suite, batch_size=25, seed=0)
    expected = theirs(
        trained, x, y, threat_model, names=[*PARTS], seed=0, batch_size=25, queries=5000
    )
    assert result.robust_mask == expected
    assert result.outcomes["clean"].count("1") > sum(expected) > 0


def test_nothing_is_printed(trained, capfd):
    saturated = nn.Sequential(trained, nn.Hardtanh(-1e-3, 1e-3))  # gradients are 0
    x, y = Digits().examples("test", 4)
    for part in (APGD_CE, APGD_T, FAB_T):
        x_adv = part(threat_model=LINF)(saturated, x, y)
        assert x_adv.isfinite().all()
    assert capfd.readouterr() == ("", "")


def test_the_names_are_the_usual_ones():
    assert [part().name for part in PARTS.values()] == ["apgd_ce", "apgd_t", "fab_t", "square"]


def test_the_seed_decides_the_random_start(trained):
    x, y = Digits().examples("test", 20)
    first, again, other = (
        APGD_CE(threat_model=L2)(trained, x, y, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_too_few_classes_are_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x, y = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(SettingError, match=r"network must have at least 4 classes .* got 3"):
        APGD_T()(network, x, y)
    with pytest.raises(SettingError, match="network must return logits of at least 2 classes"):
        FAB_T()(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), x, y)


def test_all_wrong_classes_are_targets_if_there_are_fewer_than_ten():
    # The nearest of four classes is found, although the standard version has nine targets.
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False))
    network[1].weight.data.copy_(torch.eye(4, 16))
    x = torch.full((3, 1, 4, 4), 0.4)
    y = torch.tensor([0, 1, 2])
    for index, target in enumerate((1, 2, 3)):
        x[index].view(-1)[index] = 0.6  # the true class leads by 0.2, over one class by 0.1
        x[index].view(-1)[target] = 0.5
    for part in (APGD_T, FAB_T):
        x_adv = part(threat_model=ThreatModel(epsilon=0.06))(network, x, y)
        assert network(x_adv).argmax(1).tolist() == [1, 2, 3]


def test_square_refuses_small_images_in_l2():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    with pytest.raises(SettingError, match="x must be images of at least 5 x 5 pixels"):
        Square(threat_model=L2)(network, torch.rand(1, 1, 4, 4), torch.tensor([0]))


@pytest.mark.parametrize("queries", [0, 1.5, True])
def test_an_invalid_number_of_queries_is_refused(queries):
    with pytest.raises(SettingError, match=f"queries must be a whole number .* got {queries}"):
        Square(queries=queries)


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"name 'apgd_ce' needs pyautoattack.*nni_robust\[eval"):
        APGD_CE()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_on_an_accelerator_the_random_state_of_all_devices_is_left_as_found(trained, part):
    x, y = Digits().examples("test", 4)
    before = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    for device in ("cpu", "cuda"):  # the library always seeds the accelerator
        x_adv = part()(trained.to(device), x.to(device), y.to(device))
        assert x_adv.device.type == device
    trained.cpu()
    after = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
