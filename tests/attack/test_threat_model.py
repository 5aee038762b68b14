"""The balls of a threat model, and the settings it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from nni_robust.attack import ThreatModel
from nni_robust.check import SettingError

CASES = [ThreatModel(epsilon=0.2), ThreatModel(norm="l2", epsilon=1.5)]


@pytest.fixture
def x():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def inside(threat_model, x_adv, x):
    order = math.inf if threat_model.norm == "linf" else 2
    length = torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)
    in_ball = bool((length <= threat_model.epsilon * (1 + 1e-6)).all())
    return in_ball and float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1


@pytest.mark.parametrize("threat_model", CASES, ids=repr)
def test_a_projected_image_is_in_the_ball_and_in_0_to_1(threat_model, x):
    far = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    assert not inside(threat_model, far, x)
    assert inside(threat_model, threat_model.project(far, x), x)


@pytest.mark.parametrize("threat_model", CASES, ids=repr)
def test_a_second_projection_changes_nothing(threat_model, x):
    far = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    once = threat_model.project(far, x)
    torch.testing.assert_close(threat_model.project(once, x), once)


@pytest.mark.parametrize("threat_model", CASES, ids=repr)
def test_a_random_start_is_in_the_ball_and_in_0_to_1(threat_model, x):
    start = threat_model.random_start(x, torch.Generator().manual_seed(2))
    assert not torch.equal(start, x)
    assert inside(threat_model, start, x)


@pytest.mark.parametrize("threat_model", CASES, ids=repr)
def test_random_starts_differ_but_follow_from_the_seed(threat_model, x):
    generator = torch.Generator().manual_seed(2)
    first, second = (threat_model.random_start(x, generator) for _ in range(2))
    assert not torch.equal(first, second)
    again = threat_model.random_start(x, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("epsilon", [8, -0.1, math.nan, True, "8/255"])
def test_an_epsilon_outside_0_to_1_is_refused_in_linf(epsilon):
    with pytest.raises(SettingError, match=r"epsilon must lie in \[0, 1\].* write 8/255, not 8\."):
        ThreatModel(epsilon=epsilon)


@pytest.mark.parametrize("epsilon", [-0.1, math.inf, math.nan, True])
def test_a_negative_or_infinite_epsilon_is_refused_in_l2(epsilon):
    with pytest.raises(SettingError, match=r"epsilon must be a number of at least 0, got .* l2"):
        ThreatModel(norm="l2", epsilon=epsilon)


def test_an_unknown_norm_is_refused():
    with pytest.raises(SettingError, match=r"norm must be one of .* got 'l0'"):
        ThreatModel(norm="l0")
