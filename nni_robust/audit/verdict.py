"""What a check found: a verdict, the numbers behind it, and what they mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from scipy.stats import binomtest

from nni_robust.functional.interval import accuracy_interval

Verdict = Literal["skipped", "pass", "warn", "fail"]  # from mild to severe

Finding = tuple[Verdict, dict[str, float], str]
"""Verdict, measured numbers and meaning; see :class:`Check`."""

_WARN, _FAIL = 0.05, 0.01  # levels of the one-sided sign test


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check found.

    Parameters
    ----------
    name
        Name in tables and records.
    verdict
        ``fail`` if an accuracy under these attacks cannot be trusted, ``warn`` if it needs a closer
        look, ``skipped`` if nothing could be measured.
    measured
        Numbers by name. A whole number counts images, any other is a fraction.
    meaning
        One sentence: what the numbers mean and what to do, or why the check was skipped.
    """

    name: str
    verdict: Verdict
    measured: dict[str, float]
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What all checks of a network found.

    Parameters
    ----------
    num_images
        Number of clean images.
    clean_accuracy
        Fraction of them that is classified right.
    robust_accuracy
        Fraction that is classified right under everything that a check tried within the threat
        model; None if no check attacked.
    checks
        In the order in which they ran.
    """

    num_images: int
    clean_accuracy: float
    robust_accuracy: float | None
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict of all checks; ``skipped`` instead of ``pass`` without attack."""
        verdict = most_severe(*(check.verdict for check in self.checks))
        return "skipped" if verdict == "pass" and self.robust_accuracy is None else verdict

    def as_json(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        return {"verdict": self.verdict, **asdict(self)}


def most_severe(*verdicts: Verdict) -> Verdict:
    """Return the most severe of several verdicts.

    Examples
    --------
    >>> most_severe("pass", "warn", "skipped")
    'warn'
    """
    return max(verdicts, key=get_args(Verdict).index)


def verdict_on_share(count: int, num_images: int, *, tolerated: float) -> Verdict:
    """Judge a number of images that should be zero.

    Parameters
    ----------
    count
        Number of such images.
    num_images
        Number of images searched.
    tolerated
        Fraction that passes.

    Returns
    -------
    Verdict
        ``warn`` above the tolerated fraction; ``fail`` if the whole 95 % Wilson interval is above
        it.

    Examples
    --------
    >>> verdict_on_share(1, 100, tolerated=0.01), verdict_on_share(8, 100, tolerated=0.01)
    ('pass', 'fail')
    """
    if count <= tolerated * num_images:
        return "pass"
    low, _ = accuracy_interval(count, num_images)
    return "fail" if low > tolerated else "warn"


def verdict_on_order(only_weaker: int, only_stronger: int) -> Verdict:
    r"""Judge whether the weaker of two attacks does better on the same images.

    Only images that exactly one attack fools tell the two apart. If the attacks were equally
    strong, each of these images would be fooled by either one with probability 1/2. This is the
    sign test of McNemar: with b and c such images,

    .. math:: p = 2^{-(b + c)} \sum_{k = b}^{b + c} \binom{b + c}{k}.

    Parameters
    ----------
    only_weaker, only_stronger
        Numbers b and c of images that only the weaker or only the stronger attack fools.

    Returns
    -------
    Verdict
        ``warn`` for p < 5 %, ``fail`` for p < 1 %.

    Examples
    --------
    >>> [verdict_on_order(b, 0) for b in (4, 5, 6, 7)]
    ['pass', 'warn', 'warn', 'fail']
    """
    if only_weaker <= only_stronger:
        return "pass"
    p = binomtest(only_weaker, only_weaker + only_stronger, alternative="greater").pvalue
    return "fail" if p < _FAIL else "warn" if p < _WARN else "pass"
