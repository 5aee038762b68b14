"""The RobNet strategy on an evaluator with known answers."""

from __future__ import annotations

from typing import Any

import nni
import pytest
from nni.mutable import Categorical, MutableDict
from nni.nas.evaluator import Evaluator, MutableEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import ModelStatus, SimplifiedModelSpace

from nni_robust.space import STAGE, SUBNETWORKS, RobNetSpace, Stage, reported
from nni_robust.strategy import RobNet

SPACE = {"num_cells": 1, "width": 2, "num_classes": 2, "in_channels": 1}


class Known(MutableEvaluator):
    """Reports the number of operations as accuracy, and an FSP distance.

    NNI requires ``trace_kwargs`` of an evaluator; there is nothing to trace.
    """

    trace_kwargs: dict[str, Any] = {}  # noqa: RUF012
    trace_args: list[Any] = []  # noqa: RUF012

    def __init__(self, fail: tuple[str, ...] = ()) -> None:
        self.stage = Stage()
        self.fail = fail
        self.done: list[dict[str, Any]] = []

    def leaf_mutables(self, is_leaf):
        yield from self.stage.leaf_mutables(is_leaf)

    def check_contains(self, sample):
        return self.stage.check_contains(sample)

    def freeze(self, sample):
        return self

    def _execute(self, model):
        sample = model.sample
        self.done.append(sample)
        if sample[STAGE] in self.fail:
            raise RuntimeError("planted")
        for index, network in enumerate(sample.get(SUBNETWORKS, [])):
            metrics = {"default": value(network), "fsp": fsp(network), "index": index}
            nni.report_intermediate_result(reported("screen", metrics))
        nni.report_final_result(reported(sample[STAGE], {"default": value(sample)}))


def value(sample: dict[str, Any]) -> float:
    """Return an accuracy: operations count 1, convolutions slightly more."""
    edges = [operations for operations in sample.values() if isinstance(operations, list)]
    return sum(1.0 + 0.01 * ("conv" in edge) for edge in edges for _ in edge)


def fsp(sample: dict[str, Any]) -> float:
    """Return an FSP distance that depends on the first edge only."""
    return 1.0 if sample["cell/edge_0_2"] else 0.1


def run(strategy: RobNet, evaluator: Known, **engine: Any) -> SequentialExecutionEngine:
    space = SimplifiedModelSpace.from_model(RobNetSpace(**SPACE), evaluator)
    engine = SequentialExecutionEngine(**engine)
    strategy(space, engine)
    return engine


def stages(evaluator: Known) -> list[str]:
    return [sample[STAGE] for sample in evaluator.done]


def test_the_stages_run_in_order_with_the_announced_number_of_trials():
    evaluator = Known()
    strategy = RobNet(num_samples=10, num_candidates=3, num_shards=2)
    run(strategy, evaluator)
    assert stages(evaluator) == ["supernet", *["screen"] * 2, *["candidate"] * 3, "final"]
    assert len(evaluator.done) == strategy.num_trials


def test_every_drawn_network_is_screened_once():
    evaluator = Known()
    run(RobNet(num_samples=10, num_candidates=1, num_shards=3), evaluator)
    screened = [str(n) for sample in evaluator.done for n in sample.get(SUBNETWORKS, [])]
    assert len(screened) == 10
    assert len(set(screened)) == 10


def test_the_candidates_are_the_best_screened_and_the_final_one_is_the_best_candidate():
    evaluator = Known()
    run(RobNet(num_samples=10, num_candidates=3, num_shards=1), evaluator)
    networks = next(s[SUBNETWORKS] for s in evaluator.done if s[STAGE] == "screen")
    candidates = [value(s) for s in evaluator.done if s[STAGE] == "candidate"]
    assert candidates == sorted((value(n) for n in networks), reverse=True)[:3]
    assert value(evaluator.done[-1]) == max(candidates)


@pytest.mark.parametrize("rule", [{"fsp_quantile": 0.2}, {"fsp_maximum": 0.5}])
def test_the_fsp_filter_keeps_the_lowest_distances(rule):
    evaluator = Known()
    run(RobNet(num_samples=20, num_candidates=3, num_shards=1, **rule), evaluator)
    assert all(fsp(s) == 0.1 for s in evaluator.done if s[STAGE] == "candidate")


def test_every_budget_has_its_own_candidates_and_final_network():
    evaluator = Known()
    budgets = {"small": (0, 5), "large": (9, 14)}
    strategy = RobNet(num_samples=6, num_candidates=2, num_shards=1, budgets=budgets)
    run(strategy, evaluator)
    convolutions = [
        sum("conv" in edge for edge in sample.values() if isinstance(edge, list))
        for sample in evaluator.done
        if sample[STAGE] in ("candidate", "final")
    ]
    assert [c <= 5 for c in convolutions] == [True] * 3 + [False] * 3
    assert all(c >= 9 for c in convolutions[3:])
    assert len(evaluator.done) == strategy.num_trials


def test_listed_models_are_candidates_from_best_to_worst():
    evaluator = Known()
    strategy = RobNet(num_samples=10, num_candidates=4, num_shards=1)
    run(strategy, evaluator)
    models = list(strategy.list_models())
    assert len(models) == 4
    assert [m.metric for m in models] == sorted((m.metric for m in models), reverse=True)
    assert [m.sample for m in strategy.list_models(limit=1)] == [models[0].sample]


def test_only_candidates_have_a_metric_by_which_nni_ranks():
    strategy = RobNet(num_samples=10, num_candidates=4, num_shards=2)
    engine = run(strategy, Known())
    ranked = [model for model in engine.list_models() if model.metric is not None]
    assert [model.sample[STAGE] for model in ranked] == ["candidate"] * 4


def test_the_seed_alone_decides_the_draws():
    done = []
    for seed in (0, 0, 1):
        evaluator = Known()
        run(RobNet(num_samples=5, num_candidates=1, num_shards=1, seed=seed), evaluator)
        done.append(evaluator.done)
    assert done[0] == done[1]
    assert done[0] != done[2]


def test_a_failed_candidate_does_not_end_the_search():
    class Second(Known):
        def _execute(self, model):
            if stages(self).count("candidate") == 1 and model.sample[STAGE] == "candidate":
                self.done.append(model.sample)
                raise RuntimeError("planted")
            super()._execute(model)

    evaluator = Second()
    strategy = RobNet(num_samples=5, num_candidates=3, num_shards=1)
    run(strategy, evaluator, continue_on_failure=True)
    assert stages(evaluator)[-4:] == ["candidate"] * 3 + ["final"]
    assert [m.status for m in strategy.list_models(sort=False)].count(ModelStatus.Failed) == 1


@pytest.mark.parametrize(
    ("stage", "message"),
    [("supernet", "the supernet's trial failed"), ("candidate", "all candidate trials failed")],
)
def test_a_stage_that_fails_completely_ends_the_search_with_the_reason(stage, message):
    with pytest.raises(RuntimeError, match=message):
        run(RobNet(num_samples=3, num_candidates=1), Known((stage,)), continue_on_failure=True)


def test_a_resumed_search_repeats_no_trial():
    first, second = Known(), Known()
    strategy = RobNet(num_samples=6, num_candidates=3, num_shards=2)
    with pytest.raises(RuntimeError, match=r"ended before stage 'candidate'.*needs 7 trials"):
        run(strategy, first, max_model_count=4)
    resumed = RobNet(num_samples=6, num_candidates=3, num_shards=2)
    space = SimplifiedModelSpace.from_model(RobNetSpace(**SPACE), second)
    engine = SequentialExecutionEngine()
    resumed.initialize(space, engine)
    resumed.load_state_dict(strategy.state_dict())
    resumed.run()
    whole = Known()
    run(RobNet(num_samples=6, num_candidates=3, num_shards=2), whole)
    assert first.done + second.done == whole.done


def test_budgets_need_cells_to_count_convolutions_in():
    choice = MutableDict({"width": Categorical([1, 2], label="width")})
    space = SimplifiedModelSpace(RobNetSpace(**SPACE), choice, Known())
    strategy = RobNet(num_samples=2, num_candidates=1, budgets={"small": (0, 7)})
    with pytest.raises(ValueError, match="budgets must be left out"):
        strategy.initialize(space, SequentialExecutionEngine())


def test_an_evaluator_without_stages_is_refused():
    space = SimplifiedModelSpace.from_model(RobNetSpace(**SPACE), Evaluator())
    with pytest.raises(ValueError, match="evaluator must hold the stage of the search"):
        RobNet().initialize(space, SequentialExecutionEngine())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
        ({"num_samples": 3, "num_candidates": 4}, "num_candidates must be at most num_samples"),
        ({"fsp_quantile": 1.5}, r"fsp_quantile must lie in \(0, 1\], got 1.5"),
        ({"fsp_maximum": -1}, "fsp_maximum must be positive"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"budgets": {}}, "budgets must name at least one range"),
        ({"budgets": {"small": (0, 20)}}, r"budgets\['small'\] must be a range of convolutions"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RobNet(**arguments)
