"""The RobNet search: supernet, screening, candidates, final test."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy import Strategy

from nni_robust.check import SettingError, check_count, check_seed
from nni_robust.space import STAGE, SUBNETWORKS
from nni_robust.strategy.selection import (
    Screened,
    best_candidate,
    draw_distinct,
    filter_by_fsp,
    most_robust,
)
from nni_robust.strategy.trials import Evaluation, Sample, Trials, sample_key

_logger = logging.getLogger(__name__)

_MOST_CONVOLUTIONS = 14  # a cell has 14 edges
_EVENTS = ("final_metric", "intermediate_metric", "training_end")


class RobNet(Strategy):  # type: ignore[misc]  # NNI is untyped
    """Search a space for the network of highest robust accuracy.

    It has four stages, which the evaluator carries out
    (:class:`nni_robust.job.staged.StagedSearch`): train one supernet adversarially; screen many
    of its subnetworks with inherited weights; fine-tune the survivors and attack them on validation
    images; attack the best one on test images.

    Parameters
    ----------
    num_samples
        Number of subnetworks that are drawn and screened, per budget.
    num_candidates
        Number of subnetworks that are fine-tuned, per budget: of those that pass the FSP filter,
        the ones with the highest robust accuracy in the screening. At most ``num_samples``.
    num_shards
        Number of trials among which the screening is divided.
    fsp_quantile
        Share of the screened subnetworks that pass, those of the lowest FSP distance, in (0, 1].
        The paper keeps 68 of 300 when cells differ. None lets all pass.
    fsp_maximum
        Largest FSP distance that passes, positive. The paper's is 0.006, on a scale that it does
        not define. None lets all pass.
    budgets
        From a name to a range of convolutions per cell: one search per budget, on one supernet.
        The paper's are small (0, 7), medium (8, 10), large (11, 14). None is one search without
        a limit.
    seed
        Seed of the draws.

    Raises
    ------
    SettingError
        If an argument is outside its range.

    Notes
    -----
    [RobNets] Sec. 3.2--3.4. Constraints on density and on direct edges belong to the space.
    The paper fine-tunes all 1,000 drawn networks in its study of cells; here the screening
    chooses ``num_candidates`` of them. ``num_candidates=num_samples`` reproduces the study.
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
        check_count("num_samples", num_samples)
        check_count("num_candidates", num_candidates)
        check_count("num_shards", num_shards)
        check_seed(seed)
        if num_candidates > num_samples:
            raise SettingError(
                f"must be at most num_samples, which is {num_samples}, got {num_candidates!r}.",
                "num_candidates",
            )
        if fsp_quantile is not None and not 0 < fsp_quantile <= 1:
            raise SettingError(f"must lie in (0, 1], got {fsp_quantile!r}.", "fsp_quantile")
        if fsp_maximum is not None and not fsp_maximum > 0:
            raise SettingError(f"must be positive, got {fsp_maximum!r}.", "fsp_maximum")
        self.num_samples = num_samples
        self.num_candidates = num_candidates
        self.num_shards = num_shards
        self.fsp_quantile = fsp_quantile
        self.fsp_maximum = fsp_maximum
        self.budgets = None if budgets is None else _checked_budgets(budgets)
        self.seed = seed
        self._drawn: dict[str, list[Sample]] = {}
        self._trials = Trials()

    @property
    def num_trials(self) -> int:
        """Largest number of trials of the search, which ``maxTrialNumber`` must allow."""
        budgets = len(self._budget_names)
        shards = min(self.num_shards, budgets * self.num_samples)
        return 1 + shards + budgets * (self.num_candidates + 1)

    @property
    def _budget_names(self) -> list[str]:
        return list(self.budgets) if self.budgets else [""]

    def extra_repr(self) -> str:
        """Return the sizes of the search."""
        return (
            f"num_samples={self.num_samples}, num_candidates={self.num_candidates}, "
            f"seed={self.seed}"
        )

    def list_models(
        self, sort: bool = True, limit: int | None = None
    ) -> Iterator[ExecutableModelSpace]:
        """Return the candidates, by default from highest to lowest robust validation accuracy.

        Parameters
        ----------
        sort
            True ranks the trained candidates; False lists all in the order of submission,
            including failed ones.
        limit
            Largest number of models; None returns all.
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
        """Return the reports of all submitted samples."""
        return {"evaluations": self._trials.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a search: trials that have ended do not run again."""
        self._trials.load_state_dict(state_dict["evaluations"])

    def _initialize(
        self, model_space: ExecutableModelSpace, engine: ExecutionEngine
    ) -> ExecutableModelSpace:
        if STAGE not in model_space.simplify():
            raise SettingError(
                "must hold the stage of the search as a mutable, as "
                f"nni_robust.job.staged.StagedSearch does, got {model_space.evaluator!r}.",
                "evaluator",
            )
        self._drawn = {
            name: draw_distinct(
                model_space,
                self.num_samples,
                seed=self.seed,
                convolutions=(self.budgets or {}).get(name),
            )
            for name in self._budget_names
        }
        for event in _EVENTS:
            engine.register_model_event_callback(event, self._trials.note)
        return model_space

    def _cleanup(self) -> None:
        for event in _EVENTS:
            self.engine.unregister_model_event_callback(event, self._trials.note)

    def _run(self) -> None:
        # Trials that were interrupted and that NNI runs again by itself.
        for model in self.engine.list_models():
            if model.sample is not None and model.status == ModelStatus.Training:
                self._trials.add(model.sample, model)
        default: Sample = {}
        self.model_space.robust_default(default)
        supernet = self._evaluate([{**default, STAGE: "supernet"}])[0]
        if supernet.metrics is None:
            raise RuntimeError(
                "the supernet's trial failed, and the search cannot continue without it. The "
                "trial's log says why."
            )
        distinct = {sample_key(s): s for drawn in self._drawn.values() for s in drawn}
        screened = self._screen(list(distinct.values()), default)
        for name, drawn in self._drawn.items():
            keys = [sample_key(sample) for sample in drawn]
            self._select(name, [screened[key] for key in keys if key in screened])

    def _screen(self, samples: list[Sample], default: Sample) -> dict[str, Screened]:
        """Measure subnetworks in shards; a shard reports one intermediate result per subnetwork."""
        num_shards = min(self.num_shards, len(samples))
        shards = [samples[index::num_shards] for index in range(num_shards)]
        submitted = [{**default, STAGE: "screen", SUBNETWORKS: shard} for shard in shards]
        screened = {}
        for shard, evaluation in zip(shards, self._evaluate(submitted), strict=True):
            for metrics in evaluation.intermediates:
                sample = shard[int(metrics["index"])]
                screened[sample_key(sample)] = (sample, metrics)
        return screened

    def _select(self, budget: str, screened: list[Screened]) -> None:
        """Fine-tune the best screened networks, and test the best of them."""
        passed = filter_by_fsp(screened, quantile=self.fsp_quantile, maximum=self.fsp_maximum)
        if not passed:
            raise RuntimeError(
                f"no screened network{' of budget ' + budget if budget else ''} passed: "
                f"{len(screened)} were screened, fsp_quantile is {self.fsp_quantile}, "
                f"fsp_maximum is {self.fsp_maximum}. Widen the filter or screen more."
            )
        candidates = [
            {**sample, STAGE: "candidate"} for sample in most_robust(passed, self.num_candidates)
        ]
        best = best_candidate(candidates, self._evaluate(candidates))
        if best is None:
            raise RuntimeError("all candidate trials failed. The trials' logs say why.")
        _logger.info("Chosen on validation images: %s", best)
        self._evaluate([{**best, STAGE: "final"}])

    def _evaluate(self, samples: list[Sample]) -> list[Evaluation]:
        """Submit the samples that were not submitted before, and wait for all."""
        for sample in samples:
            if sample in self._trials:
                continue
            if not self.wait_for_resource():
                raise RuntimeError(
                    f"the experiment ended before stage {sample[STAGE]!r}: it needs "
                    f"{self.num_trials} trials. Raise maxTrialNumber or maxExperimentDuration."
                )
            model = self.model_space.freeze(sample)
            self._trials.add(sample, model)
            self.engine.submit_models(model)
        running = self._trials.models(samples)
        if running:
            self.engine.wait_models(*running)
        return [self._trials.evaluation(sample) for sample in samples]


def _checked_budgets(budgets: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    if not budgets:
        raise SettingError(
            "must name at least one range, got none. Leave it out instead.", "budgets"
        )
    checked = {}
    for name, bounds in budgets.items():
        if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= _MOST_CONVOLUTIONS:
            raise SettingError(
                f"must be a range of convolutions per cell within 0 and {_MOST_CONVOLUTIONS}, such "
                f"as [8, 10], got {bounds!r}.",
                f"budgets[{name!r}]",
            )
        checked[name] = (bounds[0], bounds[1])
    return checked
