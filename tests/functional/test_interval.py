"""Confidence intervals against closed forms, the tests that define them, and their coverage."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom, norm

from nni_robust.functional.interval import accuracy_interval

COUNTS = [(0, 10), (1, 10), (5, 10), (10, 10), (37, 359), (5123, 10000)]


@pytest.mark.parametrize(("right", "total"), COUNTS)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_equals_the_closed_form(right, total, confidence):
    z, p = norm.ppf((1 + confidence) / 2), right / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    low, high = accuracy_interval(right, total, confidence=confidence)
    assert low == pytest.approx(centre - half, abs=1e-12)
    assert high == pytest.approx(centre + half, abs=1e-12)


@pytest.mark.parametrize(("right", "total"), COUNTS)
def test_clopper_pearson_has_equal_tails(right, total):
    low, high = accuracy_interval(right, total, method="clopper_pearson")
    if right == 0:
        assert low == 0
        assert high == pytest.approx(1 - 0.025 ** (1 / total))  # closed form
    else:
        assert binom.sf(right - 1, total, low) == pytest.approx(0.025, abs=1e-6)
    if right == total:
        assert high == 1
        assert low == pytest.approx(0.025 ** (1 / total))
    else:
        assert binom.cdf(right, total, high) == pytest.approx(0.025, abs=1e-6)


def test_clopper_pearson_matches_a_printed_table():
    # Tables of exact 95 % limits, as in textbooks: 3 of 10, and 10 of 20.
    assert accuracy_interval(3, 10, method="clopper_pearson") == pytest.approx(
        (0.0667, 0.6525), abs=5e-5
    )
    assert accuracy_interval(10, 20, method="clopper_pearson") == pytest.approx(
        (0.2720, 0.7280), abs=5e-5
    )


def test_the_exact_interval_covers_its_confidence_and_wilson_nearly_does():
    total, p = 50, 0.47
    for method, least in (("clopper_pearson", 0.95), ("wilson", 0.93)):
        covered = 0.0
        for right in range(total + 1):
            low, high = accuracy_interval(right, total, method=method)
            covered += binom.pmf(right, total, p) * (low <= p <= high)
        assert covered >= least


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_right": 3, "num_images": 2}, "num_right must lie between 0 and num_images"),
        ({"num_right": 0, "num_images": 0}, "num_images must be at least 1, got 0 and 0"),
        (
            {"num_right": 1, "num_images": 2, "confidence": 95},
            "confidence must lie strictly between 0 and",
        ),
        (
            {"num_right": 1, "num_images": 2, "method": "wald"},
            "method must be one of .* got 'wald'",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        accuracy_interval(**arguments)
