"""The RobNet search: supernet, screening, candidates, selection."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy import Strategy
from numpy.random import RandomState

from nni_robust.space import NETWORKS, STAGE, robust_accuracy, sampler_of

_logger = logging.getLogger(__name__)

Sample = dict[str, Any]
_EVENTS = ("final_metric", "intermediate_metric", "training_end")


@dataclass
class Evaluation:
    """What came of one submitted sample.

    Attributes
    ----------
    metrics
        The final report, or None if there was none.
    intermediates
        The intermediate reports, in their order.
    ended
        Whether the trial is over.
    """

    metrics: dict[str, float] | None = None
    intermediates: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


class RobNet(Strategy):  # type: ignore[misc]  # NNI is untyped
    """Search a space for the network that resists attacks best.

    Four stages, each carried out by an evaluator that knows them
    (:class:`nni_robust.job.staged.StagedEvaluator`): one supernet is trained adversarially;
    many of its subnetworks are screened with inherited weights; the survivors are fine-tuned
    and attacked on validation images; the best one is attacked on test images.

    Parameters
    ----------
    num_samples
        Subnetworks that are drawn and screened, for each budget.
    num_candidates
        Subnetworks that are fine-tuned, for each budget: those of the highest robust accuracy in
        the screening among the ones that pass the FSP filter.
    num_shards
        Trials among which the screening is divided.
    fsp_quantile
        Share of the screened subnetworks that pass, those of the lowest FSP distance; the paper
        keeps 68 of 300 when cells differ. None lets all pass.
    fsp_maximum
        Largest FSP distance that passes (the paper's is 0.006, on a scale that it does not
        define). None lets all pass.
    budgets
        From a name to the range of convolutions a cell: one search for each, on one supernet.
        The paper's are small (0, 7), medium (8, 10), large (11, 14). None is one search without
        a bound.
    seed
        Of the draws.

    Notes
    -----
    [RobNets] Sec. 3.2-3.4. Constraints on density and on direct edges belong to the space.
    The paper fine-tunes all 1,000 drawn networks in its study of cells; here the screening
    chooses ``num_candidates`` of them. ``num_candidates=num_samples`` is the study.
    """

    def __init__(
        self,
        *,
        num_samples: int = 1000,
        num_candidates: int = 50,
        num_shards: int = 4,
        fsp_quantile: float | None = None,
        fsp_maximum: float | None = None,
        budgets: Mapping[str, tuple[int, int]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_counts(num_samples, num_candidates, num_shards)
        if fsp_quantile is not None and not 0 < fsp_quantile <= 1:
            raise ValueError(f"fsp_quantile must lie in (0, 1], got {fsp_quantile!r}.")
        if fsp_maximum is not None and not fsp_maximum > 0:
            raise ValueError(f"fsp_maximum must be positive, got {fsp_maximum!r}.")
        self.num_samples = num_samples
        self.num_candidates = num_candidates
        self.num_shards = num_shards
        self.fsp_quantile = fsp_quantile
        self.fsp_maximum = fsp_maximum
        self.budgets = None if budgets is None else _checked_budgets(budgets)
        self.seed = seed
        self._drawn: dict[str, list[Sample]] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._models: dict[str, ExecutableModelSpace] = {}

    @property
    def num_trials(self) -> int:
        """Trials that the search takes at most: what ``maxTrialNumber`` must allow."""
        budgets = len(self._budget_names)
        shards = min(self.num_shards, budgets * self.num_samples)
        return 1 + shards + budgets * (self.num_candidates + 1)

    @property
    def _budget_names(self) -> list[str]:
        return list(self.budgets) if self.budgets else [""]

    def extra_repr(self) -> str:
        """Name the sizes."""
        return (
            f"num_samples={self.num_samples}, num_candidates={self.num_candidates}, "
            f"seed={self.seed}"
        )

    def list_models(
        self, sort: bool = True, limit: int | None = None
    ) -> Iterator[ExecutableModelSpace]:
        """List the candidates, those of the highest robust accuracy on validation images first.

        Parameters
        ----------
        sort
            Whether to rank; otherwise in the order of submission, failed ones included.
        limit
            Number of models, or None for all.
        """
        models = [
            model
            for model in self.engine.list_models()
            if model.sample is not None and model.sample.get(STAGE) == "candidate"
        ]
        if sort:
            models = [m for m in models if m.status == ModelStatus.Trained and m.metric is not None]
            models.sort(key=lambda model: model.metric, reverse=True)
        yield from models[:limit]

    def state_dict(self) -> dict[str, Any]:
        """Give what has come of every submitted sample."""
        evaluations = list(self._evaluations.items())  # events of other trials arrive meanwhile
        return {
            "evaluations": {
                key: {
                    "metrics": evaluation.metrics,
                    "intermediates": list(evaluation.intermediates),
                    "ended": evaluation.ended,
                }
                for key, evaluation in evaluations
            }
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a search: what has ended is not done again."""
        self._evaluations = {key: Evaluation(**o) for key, o in state_dict["evaluations"].items()}

    def _initialize(
        self, model_space: ExecutableModelSpace, engine: ExecutionEngine
    ) -> ExecutableModelSpace:
        if STAGE not in model_space.simplify():
            raise ValueError(
                "evaluator must hold the stage of the search as a mutable, as "
                f"nni_robust.job.staged.StagedEvaluator does, got {model_space.evaluator!r}."
            )
        self._drawn = {name: self._draw(model_space, name) for name in self._budget_names}
        for event in _EVENTS:
            engine.register_model_event_callback(event, self._note)
        return model_space

    def _cleanup(self) -> None:
        for event in _EVENTS:
            self.engine.unregister_model_event_callback(event, self._note)

    def _run(self) -> None:
        # Trials that were interrupted and that NNI runs again by itself.
        for model in self.engine.list_models():
            if model.sample is not None and model.status == ModelStatus.Training:
                self._models[_key(model.sample)] = model
        default: Sample = {}
        self.model_space.robust_default(default)
        supernet = self._evaluate([{**default, STAGE: "supernet"}])[0]
        if supernet.metrics is None:
            raise RuntimeError(
                "the supernet's trial failed, and nothing can be searched without "
                "it. The trial's log says why."
            )
        distinct = {_key(s): s for drawn in self._drawn.values() for s in drawn}
        screened = self._screen(list(distinct.values()), default)
        for name, drawn in self._drawn.items():
            self._select(name, [screened[_key(s)] for s in drawn if _key(s) in screened])

    def _select(self, budget: str, screened: list[tuple[Sample, dict[str, float]]]) -> None:
        chosen = self._pass_filters(screened)
        if not chosen:
            raise RuntimeError(
                f"no screened network{' of budget ' + budget if budget else ''} passed: "
                f"{len(screened)} were screened, fsp_quantile is {self.fsp_quantile}, "
                f"fsp_maximum is {self.fsp_maximum}. Widen the filter or screen more."
            )
        candidates = [{**sample, STAGE: "candidate"} for sample, _ in chosen]
        evaluations = self._evaluate(candidates)
        ranked = [
            (evaluation.metrics["default"], index)
            for index, evaluation in enumerate(evaluations)
            if evaluation.metrics is not None
        ]
        if not ranked:
            raise RuntimeError("all candidate trials failed. The trials' logs say why.")
        best = candidates[max(ranked, key=lambda pair: (pair[0], -pair[1]))[1]]
        _logger.info("Chosen on validation images: %s", best)
        self._evaluate([{**best, STAGE: "final"}])

    def _pass_filters(
        self, screened: list[tuple[Sample, dict[str, float]]]
    ) -> list[tuple[Sample, dict[str, float]]]:
        passed = screened
        filters = self.fsp_quantile is not None or self.fsp_maximum is not None
        if filters and any("fsp" not in metrics for _, metrics in screened):
            raise RuntimeError(
                "fsp_quantile and fsp_maximum need networks that are chains of cells, with a list "
                "of `cells`; those of this space have no FSP distance. Leave both out."
            )
        if self.fsp_quantile is not None:
            passed = sorted(passed, key=lambda pair: pair[1]["fsp"])
            passed = passed[: max(1, round(self.fsp_quantile * len(passed)))]
        if self.fsp_maximum is not None:
            passed = [pair for pair in passed if pair[1]["fsp"] <= self.fsp_maximum]
        passed = sorted(passed, key=lambda pair: robust_accuracy(pair[1]), reverse=True)
        return passed[: self.num_candidates]

    def _draw(self, space: ExecutableModelSpace, budget: str) -> list[Sample]:
        """Draw distinct samples; the seed alone decides which, so that a resume draws the same."""
        sampler = sampler_of(
            space,
            RandomState(self.seed),
            convolutions=(self.budgets or {}).get(budget),
            exclude=frozenset([STAGE]),
        )
        samples: dict[str, Sample] = {}
        for _ in range(100 * self.num_samples):
            sample = sampler.draw()
            samples.setdefault(_key(sample), sample)
            if len(samples) == self.num_samples:
                return list(samples.values())
        _logger.warning("The space has only %d networks to draw.", len(samples))
        return list(samples.values())

    def _screen(
        self, samples: list[Sample], default: Sample
    ) -> dict[str, tuple[Sample, dict[str, float]]]:
        """Measure subnetworks in shards; each reports one subnetwork as one intermediate result."""
        num_shards = min(self.num_shards, len(samples))
        shards = [samples[index::num_shards] for index in range(num_shards)]
        submitted = [{**default, STAGE: "screen", NETWORKS: shard} for shard in shards]
        screened = {}
        for shard, evaluation in zip(shards, self._evaluate(submitted), strict=True):
            for metrics in evaluation.intermediates:
                sample = shard[int(metrics["index"])]
                screened[_key(sample)] = (sample, metrics)
        return screened

    def _evaluate(self, samples: Iterable[Sample]) -> list[Evaluation]:
        """Submit what was not submitted before, and wait for all."""
        keys = []
        for sample in samples:
            key = _key(sample)
            keys.append(key)
            if key in self._models or self._evaluations.get(key, Evaluation()).ended:
                continue
            if not self.wait_for_resource():
                raise RuntimeError(
                    f"the experiment ended before stage {sample[STAGE]!r}: it needs "
                    f"{self.num_trials} trials. Raise maxTrialNumber or maxExperimentDuration."
                )
            model = self.model_space.freeze(sample)
            self._models[key] = model  # engines hold submitted models by weak references only
            self.engine.submit_models(model)
        running = [self._models[key] for key in keys if key in self._models]
        if running:
            self.engine.wait_models(*running)
        return [self._evaluations.get(key, Evaluation()) for key in keys]

    def _note(self, event: FinalMetricEvent | IntermediateMetricEvent | TrainingEndEvent) -> None:
        if event.model.sample is None:
            return
        evaluation = self._evaluations.setdefault(_key(event.model.sample), Evaluation())
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


def _key(sample: Mapping[str, Any]) -> str:
    return json.dumps(sample, sort_keys=True)


def _check_counts(num_samples: int, num_candidates: int, num_shards: int) -> None:
    counts = {
        "num_samples": num_samples,
        "num_candidates": num_candidates,
        "num_shards": num_shards,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count!r}.")
    if num_candidates > num_samples:
        raise ValueError(
            f"num_candidates must be at most num_samples, which is {num_samples}, "
            f"got {num_candidates!r}."
        )


def _checked_budgets(budgets: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    if not budgets:
        raise ValueError("budgets must name at least one range, got none. Leave it out instead.")
    checked = {}
    for name, bounds in budgets.items():
        if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= 14:
            raise ValueError(
                f"budgets[{name!r}] must be a range of convolutions a cell within 0 and 14, such "
                f"as [8, 10], got {bounds!r}."
            )
        checked[name] = (bounds[0], bounds[1])
    return checked
