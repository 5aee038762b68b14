"""The stage of a search, as a mutable: what is to be done with a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nni.mutable import LabeledMutable, Mutable
from nni.mutable.exception import SampleMissingError, SampleValidationError
from numpy.random import RandomState

STAGE = "stage"
"""Label of the stage in a sample."""

NETWORKS = "networks"
"""Key beside it: the list of samples that a screening trial measures."""

STAGES = ("supernet", "screen", "candidate", "final")


class Stage(LabeledMutable):  # type: ignore[misc]  # NNI is untyped
    """What a trial does with the sample it is given.

    ``supernet`` trains the space as a whole, ``screen`` measures many inherited subnetworks
    (listed under ``networks``), ``candidate`` fine-tunes one and attacks it on validation
    images, ``final`` attacks the fine-tuned one on test images. An evaluator holds it; a strategy
    that knows the stages sets it, and every other strategy gets candidates.
    """

    def __init__(self) -> None:
        self.label = STAGE

    def extra_repr(self) -> str:
        """Name the stages."""
        return f"{list(STAGES)!r}, label={self.label!r}"

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the stage itself."""
        yield self

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Give what is wrong with the stage of a sample, or None."""
        if self.label not in sample:
            return SampleMissingError(self.label, list(sample))
        stage = sample[self.label]
        if stage not in STAGES:
            return SampleValidationError(f"stage must be one of {STAGES}, got {stage!r}.")
        if (stage == "screen") != bool(sample.get(NETWORKS)):
            return SampleValidationError(
                f"networks must list the samples to screen in stage 'screen', and only there; "
                f"the stage is {stage!r} with {len(sample.get(NETWORKS) or [])} networks."
            )
        return None

    def freeze(self, sample: dict[str, Any]) -> str:
        """Give the stage of a sample."""
        self.validate(sample)
        return str(sample[self.label])

    def default(self, memo: dict[str, Any] | None = None) -> str:
        """Give ``candidate``, unless the memo has a stage."""
        memo = {} if memo is None else memo
        memo.setdefault(self.label, "candidate")
        return str(memo[self.label])

    def random(
        self, memo: dict[str, Any] | None = None, random_state: RandomState | None = None
    ) -> str:
        """Give ``candidate``: the other stages are not for chance to choose."""
        return self.default(memo)

    def grid(
        self, memo: dict[str, Any] | None = None, granularity: int | None = None
    ) -> Iterator[str]:
        """Give ``candidate``, for the same reason."""
        yield self.default({} if memo is None else memo)

    def as_legacy_dict(self) -> dict[str, Any]:
        """Describe it to NNI's tuners: one choice."""
        return {"_type": "choice", "_value": ["candidate"]}


def reported(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a stage in the form in which a trial reports them to NNI.

    NNI ranks trials by ``default``. Only candidates report it, because all of them are attacked
    in the same way: by the whole suite, on validation images. Every other stage reports its
    value as ``robust``. This holds for final and for intermediate results.

    Examples
    --------
    >>> reported("supernet", {"default": 0.5, "clean": 0.8})
    {'robust': 0.5, 'clean': 0.8}
    >>> reported("candidate", {"default": 0.5, "clean": 0.8})
    {'default': 0.5, 'clean': 0.8}
    """
    if stage == "candidate":
        return dict(metrics)
    return {"robust" if name == "default" else name: value for name, value in metrics.items()}


def robust_accuracy(report: Mapping[str, float]) -> float:
    """Return the robust accuracy of a report of any stage; see :func:`reported`."""
    return report["robust"] if "robust" in report else report["default"]
