"""RobNet's choice of networks: distinct draws, the FSP filter, the best by robust accuracy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from numpy.random import RandomState

from nni_robust.space import STAGE, robust_accuracy, sampler_of
from nni_robust.strategy.trials import Evaluation, Sample, sample_key

_logger = logging.getLogger(__name__)

Screened = tuple[Sample, dict[str, float]]
"""A sample and the metrics of its screening."""

_TRIES_PER_SAMPLE = 100  # draws before a space counts as exhausted


def draw_distinct(
    space: Any, num_samples: int, *, seed: int, convolutions: tuple[int, int] | None = None
) -> list[Sample]:
    """Return different random samples of a space, fewer if it does not have as many.

    Parameters
    ----------
    space
        A model space.
    num_samples
        Number of samples.
    seed
        The seed alone decides which samples: a resumed search draws the same.
    convolutions
        Range of convolutions per cell; None does not limit them.
    """
    sampler = sampler_of(
        space, RandomState(seed), convolutions=convolutions, exclude=frozenset([STAGE])
    )
    samples: dict[str, Sample] = {}
    for _ in range(_TRIES_PER_SAMPLE * num_samples):
        sample = sampler.draw()
        samples.setdefault(sample_key(sample), sample)
        if len(samples) == num_samples:
            return list(samples.values())
    _logger.warning("The space has only %d networks to draw.", len(samples))
    return list(samples.values())


def filter_by_fsp(
    screened: Sequence[Screened], *, quantile: float | None, maximum: float | None
) -> list[Screened]:
    """Return the networks of low FSP distance.

    Parameters
    ----------
    screened
        Screened networks; their metrics hold ``fsp`` if there is a filter.
    quantile
        Share that passes, those of the lowest distance; at least one network. None lets all pass.
    maximum
        Largest distance that passes. None lets all pass.

    Raises
    ------
    RuntimeError
        If there is a filter, but networks without a distance.

    Notes
    -----
    [RobNets] Sec. 3.4.

    Examples
    --------
    >>> screened = [({"x": 0}, {"fsp": 0.3}), ({"x": 1}, {"fsp": 0.1})]
    >>> filter_by_fsp(screened, quantile=0.5, maximum=None)
    [({'x': 1}, {'fsp': 0.1})]
    """
    passed = list(screened)
    if quantile is None and maximum is None:
        return passed
    if any("fsp" not in metrics for _, metrics in screened):
        raise RuntimeError(
            "fsp_quantile and fsp_maximum need networks that are chains of cells, with a list "
            "of `cells`; those of this space have no FSP distance. Leave both out."
        )
    if quantile is not None:
        passed = sorted(passed, key=lambda pair: pair[1]["fsp"])
        passed = passed[: max(1, round(quantile * len(passed)))]
    if maximum is not None:
        passed = [pair for pair in passed if pair[1]["fsp"] <= maximum]
    return passed


def most_robust(screened: Sequence[Screened], count: int) -> list[Sample]:
    """Return the samples of highest robust accuracy, the best first."""
    ranked = sorted(screened, key=lambda pair: robust_accuracy(pair[1]), reverse=True)
    return [sample for sample, _ in ranked[:count]]


def best_candidate(
    candidates: Sequence[Sample], evaluations: Sequence[Evaluation]
) -> Sample | None:
    """Return the candidate of highest robust accuracy, the first of equal ones.

    None if no candidate has metrics.
    """
    ranked = [
        (evaluation.metrics["default"], -index)
        for index, evaluation in enumerate(evaluations)
        if evaluation.metrics is not None
    ]
    return candidates[-max(ranked)[1]] if ranked else None
