"""The stage of a search as a mutable: it says what a trial does with its sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nni.mutable import LabeledMutable, Mutable
from nni.mutable.exception import SampleMissingError, SampleValidationError
from numpy.random import RandomState

STAGE = "stage"
"""Label of the stage in a sample."""

SUBNETWORKS = "networks"
"""Key in the sample of a screening trial: the list of samples to measure."""

STAGES = ("supernet", "screen", "candidate", "final")
_UNRANKED = ("supernet", "screen", "final")


class Stage(LabeledMutable):  # type: ignore[misc]  # NNI is untyped
    """What a trial does with its sample.

    ``supernet`` trains the supernet. ``screen`` measures many sampled subnetworks (listed under
    ``networks``) with its weights. ``candidate`` fine-tunes one subnetwork and attacks it on
    validation images. ``final`` attacks a fine-tuned one on test images.

    The mutable belongs to an evaluator. A strategy that knows the stages sets it; under any other
    strategy all trials are candidates.
    """

    def __init__(self) -> None:
        self.label = STAGE

    def extra_repr(self) -> str:
        """Return the stages and the label as text."""
        return f"{list(STAGES)!r}, label={self.label!r}"

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the stage itself."""
        yield self

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Return why the stage of a sample is invalid, or None."""
        if self.label not in sample:
            return SampleMissingError(self.label, list(sample))
        stage = sample[self.label]
        if stage not in STAGES:
            return SampleValidationError(f"stage must be one of {STAGES}, got {stage!r}.")
        if (stage == "screen") != bool(sample.get(SUBNETWORKS)):
            return SampleValidationError(
                f"networks must list the samples to screen in stage 'screen' and in no other; "
                f"the stage is {stage!r} with {len(sample.get(SUBNETWORKS) or [])} networks."
            )
        return None

    def freeze(self, sample: dict[str, Any]) -> str:
        """Return the stage of a sample."""
        self.validate(sample)
        return str(sample[self.label])

    def default(self, memo: dict[str, Any] | None = None) -> str:
        """Return ``candidate``, unless the memo contains a stage."""
        memo = {} if memo is None else memo
        memo.setdefault(self.label, "candidate")
        return str(memo[self.label])

    def random(
        self, memo: dict[str, Any] | None = None, random_state: RandomState | None = None
    ) -> str:
        """Return ``candidate``: the stage is not random."""
        return self.default(memo)

    def grid(
        self, memo: dict[str, Any] | None = None, granularity: int | None = None
    ) -> Iterator[str]:
        """Yield ``candidate`` only: the stage is not searched."""
        yield self.default({} if memo is None else memo)

    def as_legacy_dict(self) -> dict[str, Any]:
        """Return the form for NNI's tuners: a choice with one value."""
        return {"_type": "choice", "_value": ["candidate"]}


def reported(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a stage in the form in which a trial reports them to NNI.

    NNI ranks trials by ``default``. Of the stages of a search only candidates report it, because
    all of them are attacked in the same way: by the whole suite, on validation images. The other
    stages report their value as ``robust``. This holds for final and for intermediate results.

    Examples
    --------
    >>> reported("supernet", {"default": 0.5, "clean": 0.8})
    {'robust': 0.5, 'clean': 0.8}
    >>> reported("candidate", {"default": 0.5, "num_parameters": 250000})
    {'default': 0.5, 'params_m': 0.25}
    """
    report = dict(metrics)
    if "num_parameters" in report:  # NNI's page has no room for long names
        report["params_m"] = report.pop("num_parameters") / 1e6
    if "num_convolutions" in report:
        report["convs"] = report.pop("num_convolutions")
    if stage in _UNRANKED and "default" in report:
        report = {"robust": report.pop("default"), **report}
    return report


def robust_accuracy(report: Mapping[str, float]) -> float:
    """Return the robust accuracy of a report of any stage; see :func:`reported`."""
    return report["robust"] if "robust" in report else report["default"]
