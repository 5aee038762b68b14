"""The attacks of the tiers."""

from __future__ import annotations

import pytest

from nni_robust.attack import PGD, ThreatModel
from nni_robust.evaluator.suite import TIERS, check_suite

NAMES = {
    "quick": ["pgd20"],
    "standard": ["pgd100", "mim20", "deepfool50", "apgd_ce", "apgd_t"],
    "full": ["apgd_ce", "apgd_t", "fab_t", "square"],
}


@pytest.mark.parametrize("tier", NAMES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_tier_has_its_attacks_under_one_threat_model(tier, norm):
    threat_model = ThreatModel(norm=norm, epsilon=0.3)
    suite = TIERS[tier](threat_model)
    check_suite("suite", suite)
    assert [attack.name for attack in suite] == NAMES[tier]
    assert all(attack.threat_model == threat_model for attack in suite)


@pytest.mark.parametrize("epsilon", [4 / 255, 8 / 255, 0.5])
def test_step_sizes_are_proportional_to_those_of_the_papers(epsilon):
    # 2/255 in a ball of 8/255
    pgd, mim, *_ = TIERS["standard"](ThreatModel(epsilon=epsilon))
    assert pgd.step == pytest.approx(epsilon * 2 / 8)
    assert mim.step == pytest.approx(epsilon * 2 / 8)


def test_a_ball_of_radius_zero_has_an_attack_too():
    assert PGD(threat_model=ThreatModel(epsilon=0.0), steps=3).step == 0
