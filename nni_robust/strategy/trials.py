"""The trials of a search: what was submitted, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace

from nni_robust.space import STAGE

Sample = dict[str, Any]


@dataclass
class Evaluation:
    """The reports of one trial.

    Parameters
    ----------
    metrics
        The final report, or None if there was none.
    intermediates
        The intermediate reports, in order.
    ended
        Whether the trial has ended.
    """

    metrics: dict[str, float] | None = None
    intermediates: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


class Trials:
    """All trials of a search, by their samples."""

    def __init__(self) -> None:
        self._evaluations: dict[str, Evaluation] = {}
        # Engines hold submitted models by weak references only.
        self._models: dict[str, ExecutableModelSpace] = {}

    def __contains__(self, sample: Mapping[str, Any]) -> bool:
        """Return whether a sample is running or has ended."""
        return sample_key(sample) in self._models or self.evaluation(sample).ended

    def add(self, sample: Mapping[str, Any], model: ExecutableModelSpace) -> None:
        """Add a model that was submitted for a sample."""
        self._models[sample_key(sample)] = model

    def models(self, samples: Iterable[Mapping[str, Any]]) -> list[ExecutableModelSpace]:
        """Return the models of samples that this process submitted."""
        keys = map(sample_key, samples)
        return [self._models[key] for key in keys if key in self._models]

    def evaluation(self, sample: Mapping[str, Any]) -> Evaluation:
        """Return the reports for a sample so far."""
        return self._evaluations.get(sample_key(sample), Evaluation())

    def note(self, event: FinalMetricEvent | IntermediateMetricEvent | TrainingEndEvent) -> None:
        """Store what an event of the engine reports."""
        if event.model.sample is None:
            return
        key = sample_key(event.model.sample)
        evaluation = self._evaluations.setdefault(key, Evaluation())
        if isinstance(event, FinalMetricEvent):
            evaluation.metrics = event.metric
        elif isinstance(event, IntermediateMetricEvent):
            evaluation.intermediates.append(event.metric)
        else:
            evaluation.ended = True
            return
        if event.model.sample[STAGE] != "candidate":
            # NNI would keep the metric and rank the model by it; only candidates are ranked.
            event.prevent_default()

    def state_dict(self) -> dict[str, Any]:
        """Return the reports of all trials as plain values."""
        evaluations = list(self._evaluations.items())  # events of other trials arrive meanwhile
        return {key: asdict(evaluation) for key, evaluation in evaluations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the reports of :meth:`state_dict`."""
        self._evaluations = {key: Evaluation(**values) for key, values in state.items()}


def sample_key(sample: Mapping[str, Any]) -> str:
    """Return a string that is equal for equal samples.

    Examples
    --------
    >>> sample_key({"b": [1], "a": 2})
    '{"a": 2, "b": [1]}'
    """
    return json.dumps(sample, sort_keys=True)
