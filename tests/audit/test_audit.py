"""The audit finds planted frauds and passes an honest network."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from scipy.stats import binom
from torch import nn

from nni_robust.attack import PGD, ThreatModel
from nni_robust.audit.audit import ATTACK_CHECKS, CHECKS, CLEAN_CHECKS, audit_robustness
from nni_robust.audit.straight_through import StraightThrough
from nni_robust.audit.verdict import most_severe, verdict_on_order, verdict_on_share
from nni_robust.data import Digits

THREAT_MODEL = ThreatModel(epsilon=32 / 255)
NUM_IMAGES = 128
PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture(scope="module")
def honest():
    """Return a network that was trained against PGD for two seconds."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24 * 16, 10)),
    )
    x, y = Digits().examples("train")
    attack = PGD(threat_model=THREAT_MODEL, steps=5, step_size=12 / 255)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for i in torch.randperm(len(x), generator=generator).split(64):
            x_adv = attack(network, x[i], y[i], generator=generator)
            loss = nn.functional.cross_entropy(network(x_adv), y[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


class Fraud(nn.Module):
    """A network with a flaw added to it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


class Saturated(Fraud):
    def forward(self, x):
        return 1e3 * self.network(x)


class Quantised(Fraud):
    def forward(self, x):
        return self.network(x.mul(8).round().div(8))


class Randomised(Fraud):
    def forward(self, x):
        return self.network(x + 0.1 * torch.randn_like(x))


class NoiseByPlace(Fraud):
    """Noise that is the same in every pass, so that comparing two passes does not show it."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(0)
        return self.network(x + 0.1 * torch.randn(x.shape, generator=generator))


class Probabilities(Fraud):
    def forward(self, x):
        return self.network(x).softmax(1)


class Detached(Fraud):
    def forward(self, x):
        return self.network(x.detach())


class WithoutGraph(Fraud):
    """Logits without any gradient, not even for the weights."""

    def forward(self, x):
        with torch.no_grad():
            return self.network(x)


class StuckDropout(nn.Dropout):
    def train(self, mode=True):
        return super().train(True)


class Overflowing(Fraud):
    def forward(self, x):
        logits = self.network(x)
        return torch.where(logits > logits.mean(), logits, torch.inf)


class HalfPrecision(Fraud):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.network(x)


class MisleadingOffTheGrid(Fraud):
    """The gradient is reversed except at the images of the dataset, multiples of 1/16."""

    def forward(self, x):
        on_grid = (x * 16 == (x * 16).round()).flatten(1).all(1).view(-1, 1, 1, 1)
        sign = torch.where(on_grid, 1.0, -1.0)
        return self.network(sign * x + ((1 - sign) * x).detach())


class CountsQueries(Fraud):
    """Reverses the gradient after too many queries in a row."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.asked = 0

    def forward(self, x):
        self.asked = self.asked + 1 if torch.is_grad_enabled() else 0
        sign = 1.0 if self.asked <= 12 else -1.0
        return self.network(sign * x + ((1 - sign) * x).detach())


def dropout_left_on(network: nn.Module) -> nn.Module:
    *body, head = network
    return nn.Sequential(*body, StuckDropout(0.3), head)


def audit(network, threat_model=THREAT_MODEL, **options):
    torch.manual_seed(0)  # for networks that draw
    x, y = Digits().examples("test", NUM_IMAGES)
    return audit_robustness(network, x, y, threat_model=threat_model, **{"queries": 300, **options})


@pytest.fixture(scope="module")
def audit_of(honest):
    """Return a function that audits every fraud once."""
    return functools.cache(lambda fraud: audit(fraud(honest)))


def verdicts(found):
    return {check.name: check.verdict for check in found.checks}


def test_an_honest_network_passes(honest):
    done = []
    found = audit(honest, progress=done.append)
    assert tuple(done) == found.checks
    assert verdicts(found) == {**dict.fromkeys(CHECKS, "pass"), "transfer": "skipped"}
    assert found.verdict == "pass"
    assert found.clean_accuracy > 0.9
    assert 0.4 < found.robust_accuracy < found.clean_accuracy


def test_an_honest_network_passes_in_l2(honest):
    found = audit(honest, ThreatModel(norm="l2", epsilon=0.5))
    assert found.verdict == "pass"
    budgets = next(check for check in found.checks if check.name == "budgets")
    # The diagonal of the unit cube in 64 dimensions is 8 = 16 epsilon.
    assert list(budgets.measured) == ["1 epsilon", "4 epsilon", "any image"]
    assert budgets.measured["any image"] == 0


FRAUDS = {
    "logits times 1000: a saturated softmax": Saturated,
    "pixels rounded to eighths": Quantised,
    "noise added to the image": Randomised,
    "the same noise in every pass": NoiseByPlace,
    "probabilities returned": Probabilities,
    "image detached": Detached,
    "no graph at all": WithoutGraph,
    "dropout left on": dropout_left_on,
    "infinite logits": Overflowing,
    "half precision": HalfPrecision,
    "gradient turned round off the data's grid": MisleadingOffTheGrid,
    "gradient turned round after twelve queries": CountsQueries,
}


def documented():
    """Return for each network on the page the checks that fail."""
    lines = PAGE.read_text().split("## What it finds")[1].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    heads, _, *frauds = rows
    return {
        name: {check for check, cell in zip(heads[1:], cells, strict=True) if cell == "FAIL"}
        for name, *cells in frauds
    }


def test_the_page_lists_all_checks_and_frauds():
    assert set(documented()) == {*FRAUDS, "as it was trained"}
    assert documented()["as it was trained"] == set()
    checks = PAGE.read_text().split("## What it finds")[0]
    assert all(f"| {name} |" in checks for name in CHECKS)


@pytest.mark.parametrize("fraud", FRAUDS)
def test_a_fraud_fails_where_the_page_says(audit_of, fraud):
    found, failed = audit_of(FRAUDS[fraud]), documented()[fraud]
    assert found.verdict == ("fail" if failed else "warn")
    assert failed <= {name for name, verdict in verdicts(found).items() if verdict == "fail"}
    json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("fraud", "check", "meaning"),
    [
        (dropout_left_on, "mode", "Modules stay in training mode"),
        (HalfPrecision, "mode", "half precision"),
        (Saturated, "outputs", "softmax is 1 in float32"),
    ],
)
def test_a_suspicious_network_gets_a_warning(audit_of, fraud, check, meaning):
    (found,) = (c for c in audit_of(fraud).checks if c.name == check)
    assert found.verdict == "warn"
    assert meaning in found.meaning


def test_a_saturated_softmax_is_distinguished_from_a_detached_gradient(audit_of):
    said = {
        fraud: next(c.meaning for c in audit_of(fraud).checks if c.name == "gradients")
        for fraud in (Saturated, Detached)
    }
    assert "softmax is saturated" in said[Saturated]
    assert "No gradient reaches the image" in said[Detached]


def test_an_attack_that_has_not_converged_gets_a_warning(honest):
    # Without a gradient PGD draws at random, from a ball so wide that every draw fools some images.
    found = audit(Detached(honest), ThreatModel(epsilon=128 / 255))
    (check,) = (c for c in found.checks if c.name == "restarts")
    assert check.verdict == "warn"
    assert "Accuracy still falls with more starts" in check.meaning


def test_a_surrogate_replaces_the_stand_in(honest):
    twin = verdicts(audit(WithoutGraph(honest), surrogate=honest))
    assert twin["transfer"] == "fail"
    stranger = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    assert verdicts(audit(honest, surrogate=stranger))["transfer"] == "pass"


def test_the_audit_leaves_the_network_as_found(honest):
    network = nn.Sequential(nn.BatchNorm2d(1), Quantised(honest)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    audit(network, queries=1)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network[0].parameters())
    honest.eval()


def test_attack_checks_are_skipped_if_too_few_images_are_classified_right(honest):
    x, y = Digits().examples("test", 20)
    wrong = (y + 1) % 10
    found = audit_robustness(honest, x, wrong, threat_model=THREAT_MODEL)
    assert {verdicts(found)[name] for name in ATTACK_CHECKS} == {"skipped"}
    assert {verdicts(found)[name] for name in CLEAN_CHECKS} == {"pass"}


def test_square_is_skipped_if_its_library_is_not_installed(honest, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (check,) = (c for c in audit(honest).checks if c.name == "black box")
    assert check.verdict == "skipped"
    assert "nni_robust[eval]" in check.meaning


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat_model": ThreatModel(epsilon=0)}, "threat_model must have a radius above 0"),
        ({"x": torch.zeros(0, 1, 8, 8)}, "x must hold at least one image, got none"),
        ({"queries": 0}, "queries must be a whole number of at least 1, got 0"),
    ],
)
def test_invalid_arguments_are_refused(honest, change, message):
    x, y = Digits().examples("test", 4)
    arguments = {"x": x, "y": y, "threat_model": THREAT_MODEL, **change}
    with pytest.raises(ValueError, match=message):
        audit_robustness(honest, **arguments)


@pytest.mark.parametrize(("weaker", "stronger"), [(7, 0), (6, 0), (5, 0), (4, 0), (9, 1), (8, 4)])
def test_an_order_is_judged_by_the_tail_of_the_binomial_distribution(weaker, stronger):
    p = binom.sf(weaker - 1, weaker + stronger, 0.5)
    expected = "fail" if p < 0.01 else "warn" if p < 0.05 else "pass"
    assert verdict_on_order(weaker, stronger) == expected


def test_an_order_that_holds_passes():
    assert verdict_on_order(0, 0) == verdict_on_order(3, 3) == verdict_on_order(0, 50) == "pass"


def test_a_fraction_fails_if_its_whole_interval_is_too_large():
    # Wilson's lower bound for 2 of 100 is 0.55 %, for 4 of 100 is 1.57 %.
    counts = {0: "pass", 1: "pass", 2: "warn", 4: "fail"}
    assert {k: verdict_on_share(k, 100, tolerated=0.01) for k in counts} == counts


def test_the_most_severe_verdict_counts():
    assert most_severe("skipped", "pass") == "pass"
    assert most_severe("fail", "warn", "pass") == "fail"


def test_a_stand_in_has_the_outputs_of_the_network_and_the_gradient_of_the_identity(honest):
    x, _ = Digits().examples("test", 8)
    x = (x * 0.97).requires_grad_()
    quantised = Quantised(honest)
    stand_in = StraightThrough(quantised)
    torch.testing.assert_close(stand_in(x), quantised(x))
    assert stand_in.num_steps(x) == 1
    assert StraightThrough(honest).num_steps(x) == 0
    at_quantised = x.detach().mul(8).round().div(8).requires_grad_()
    (expected,) = torch.autograd.grad(honest(at_quantised)[:, 3].sum(), at_quantised)
    (gradient,) = torch.autograd.grad(stand_in(x)[:, 3].sum(), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    "step",
    [*(torch.floor, torch.ceil, torch.trunc, torch.sign), lambda x: x.detach(), lambda x: x.data],
)
def test_a_stand_in_recognises_every_step_function(step):
    class Stepped(nn.Module):
        def forward(self, x):
            return step(3 * x)

    x = torch.rand(4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(StraightThrough(Stepped())(x).sum(), x)
    assert gradient.tolist() == [3.0] * 4
