"""Confidence intervals of an accuracy that was measured on a sample of images."""

from __future__ import annotations

from typing import Literal, get_args

from scipy.stats import binomtest

from nni_robust.check import check_choice, check_share

IntervalMethod = Literal["wilson", "clopper_pearson"]

_SCIPY_NAMES = {"wilson": "wilson", "clopper_pearson": "exact"}


def accuracy_interval(
    num_right: int,
    num_images: int,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "wilson",
) -> tuple[float, float]:
    r"""Return a confidence interval of the accuracy behind a count of correct predictions.

    Images count as drawn independently. Differences between training runs are not included.

    Parameters
    ----------
    num_right
        Images classified correctly, from 0 to ``num_images``.
    num_images
        Images classified, at least 1.
    confidence
        Share of such intervals that contain the accuracy, in (0, 1).
    method
        ``wilson`` inverts the score test, and its coverage is close to ``confidence`` on average;
        ``clopper_pearson`` inverts the exact test, and its coverage is never below.

    Returns
    -------
    low, high
        Fractions, in [0, 1].

    Notes
    -----
    Wilson, 1927: with :math:`\hat p = k / n` and the normal quantile z,

    .. math::

        \frac{\hat p + \frac{z^2}{2n}
        \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n} + \frac{z^2}{4n^2}}}{1 + \frac{z^2}{n}}.

    Clopper and Pearson, 1934.

    Examples
    --------
    >>> low, high = accuracy_interval(5000, 10000)
    >>> f"{low:.4f} {high:.4f}"
    '0.4902 0.5098'
    """
    if not (0 <= num_right <= num_images and num_images >= 1):
        raise ValueError(
            f"num_right must lie between 0 and num_images, and num_images must be at least 1, "
            f"got {num_right!r} and {num_images!r}."
        )
    check_share("confidence", confidence)
    check_choice("method", method, get_args(IntervalMethod))
    interval = binomtest(num_right, num_images).proportion_ci(
        confidence_level=confidence, method=_SCIPY_NAMES[method]
    )
    return float(interval.low), float(interval.high)
