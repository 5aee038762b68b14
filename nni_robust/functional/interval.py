"""Confidence intervals of an accuracy: what a sample of images says of all images."""

from __future__ import annotations

from typing import Literal, get_args

from scipy.stats import binomtest

IntervalMethod = Literal["wilson", "clopper_pearson"]

_NAMES_IN_SCIPY = {"wilson": "wilson", "clopper_pearson": "exact"}


def accuracy_interval(
    num_right: int,
    num_images: int,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "wilson",
) -> tuple[float, float]:
    r"""Bound the accuracy that lies behind a count of right answers.

    Images are taken as drawn independently. What differs between training runs is not in it.

    Parameters
    ----------
    num_right
        Images answered right.
    num_images
        Images asked, at least 1.
    confidence
        Share of such intervals that hold the accuracy, in (0, 1).
    method
        ``wilson`` inverts the score test and is near its confidence on average;
        ``clopper_pearson`` inverts the exact test and never falls below it.

    Returns
    -------
    low, high
        Fractions.

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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    if method not in get_args(IntervalMethod):
        raise ValueError(f"method must be one of {list(_NAMES_IN_SCIPY)}, got {method!r}.")
    interval = binomtest(num_right, num_images).proportion_ci(
        confidence_level=confidence, method=_NAMES_IN_SCIPY[method]
    )
    return float(interval.low), float(interval.high)
