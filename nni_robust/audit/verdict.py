"""What a check finds: a verdict, the numbers behind it, and what they mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from scipy.stats import binomtest

from nni_robust.functional.interval import accuracy_interval

Verdict = Literal["skipped", "pass", "warn", "fail"]  # from mild to severe

_WARN, _FAIL = 0.05, 0.01  # levels of the one-sided sign test


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check has found.

    Parameters
    ----------
    name
        Names it in tables and records.
    verdict
        ``fail`` where an accuracy under these attacks is not to be believed, ``warn`` where it is
        to be looked at, ``skipped`` where nothing could be measured.
    measured
        Numbers by name: a whole number counts images, another is a share.
    meaning
        What it means and what to do, or why it was skipped; a sentence.
    """

    name: str
    verdict: Verdict
    measured: dict[str, float]
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What all checks of a network have found.

    Parameters
    ----------
    num_images
        Images, all of them clean to begin with.
    clean_accuracy
        Share that is classified right.
    robust_accuracy
        Share that is classified right whatever a check tried on it within the threat model; None
        where none tried anything.
    checks
        In the order in which they ran.
    """

    num_images: int
    clean_accuracy: float
    robust_accuracy: float | None
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict of all checks; none is a pass where no attack was tried."""
        verdict = most_severe(*(check.verdict for check in self.checks))
        return "skipped" if verdict == "pass" and self.robust_accuracy is None else verdict

    def describe(self) -> dict[str, Any]:
        """Write the findings as values of JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def most_severe(*verdicts: Verdict) -> Verdict:
    """Give the most severe of several verdicts.

    Examples
    --------
    >>> most_severe("pass", "warn", "skipped")
    'warn'
    """
    return max(verdicts, key=get_args(Verdict).index)


def verdict_on_share(count: int, num_images: int, *, tolerated: float) -> Verdict:
    """Judge how many images there are that should not be.

    Parameters
    ----------
    count
        Such images.
    num_images
        Images among which they were looked for.
    tolerated
        Share that passes.

    Returns
    -------
    Verdict
        ``warn`` above the tolerated share, ``fail`` if all of the 95 % interval of Wilson lies
        above it.

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
    r"""Judge whether of two attacks on the same images the weaker one does better.

    Images that both fool, or neither, do not tell. If the two were alike, each of the others would
    be fooled by either with probability 1/2, whence the sign test of McNemar: with b and c images,

    .. math:: p = 2^{-(b + c)} \sum_{k = b}^{b + c} \binom{b + c}{k}.

    Parameters
    ----------
    only_weaker, only_stronger
        Numbers b and c of images that only the one, or only the other attack fools.

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
