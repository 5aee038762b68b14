"""FSP distance of whole networks, and the filter that uses it."""

from __future__ import annotations

import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from nni.nas.strategy import RegularizedEvolution
from nni.nas.strategy.middleware import Chain, Filter
from numpy.random import RandomState
from torch import nn

from nni_robust.attack import FGSM, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import FSPDistance, FSPFilter, cell_fsp_distances
from nni_robust.functional.fsp import fsp_distance
from nni_robust.space import RobNetSpace, sampler_of

DATA = Synthetic(num_classes=3, image_shape=(1, 8, 8), num_examples=90)


def space() -> RobNetSpace:
    torch.manual_seed(0)
    return RobNetSpace(num_cells=3, width=4, num_classes=3, in_channels=1)


def network() -> nn.Module:
    net = space()
    return net.freeze(sampler_of(net, RandomState(0)).draw()).eval()


@pytest.mark.parametrize("cell_input", ["prev", "prev_prev", "concat"])
def test_distances_agree_with_features_collected_by_hand(cell_input):
    net = network()
    x, _ = DATA.examples("validation", 6)
    x_adv = (x + 0.1).clamp(0, 1)

    def features(images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        s0 = s1 = net.stem_0(images)
        pairs = []
        for cell in net.cells:
            out = cell(s0, s1)
            older = nn.functional.adaptive_max_pool2d(s0, s1.shape[2:])
            chosen = {"prev": s1, "prev_prev": s0, "concat": torch.cat([older, s1], 1)}
            pairs.append((chosen[cell_input], out))
            s0, s1 = s1, out
        return pairs

    with torch.no_grad():
        expected = [
            fsp_distance(a, b).mean().item()
            for a, b in zip(features(x), features(x_adv), strict=True)
        ]
    measured = cell_fsp_distances(net, x, x_adv, cell_input=cell_input, batch_size=4)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_without_an_attack_nothing_moves():
    attack = FGSM(threat_model=ThreatModel(epsilon=0.0))
    assert FSPDistance(data=DATA, attack=attack).score(network()) == 0.0


def test_the_score_is_the_mean_over_the_last_cells():
    measure = FSPDistance(data=DATA, attack=FGSM(), last_cells=2)
    net = network()
    assert measure.score(net) == pytest.approx(sum(measure.distances(net)[-2:]) / 2)
    assert measure.evaluate(net)["default"] == -measure.score(net)


def test_a_network_without_cells_is_refused():
    with pytest.raises(ValueError, match="network must have a list of its cells"):
        FSPDistance(data=DATA).score(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))


def test_evolution_searches_through_the_filter():
    measure = FSPDistance(data=DATA, attack=FGSM(), num_examples=8)
    models = space()
    distances = [
        measure.score(models.freeze(sampler_of(models, RandomState(i)).draw())) for i in range(7)
    ]
    maximum = sorted(distances)[3]
    evaluated = []

    def score(model: nn.Module) -> float:
        evaluated.append(measure.score(model))
        return -evaluated[-1]

    evaluator = FunctionalEvaluator(_Reporter(score))
    strategy = Chain(
        RegularizedEvolution(population_size=3, sample_size=2, seed=0),
        Filter(FSPFilter(measure, maximum=maximum)),
    )
    strategy(RawFormatModelSpace(models, evaluator), SequentialExecutionEngine(max_model_count=6))
    assert len(evaluated) >= 6
    assert max(evaluated) <= maximum


class _Reporter:
    """Evaluates a model by a function and reports the value."""

    def __init__(self, function):
        self.function = function

    def __call__(self, model):
        import nni

        nni.report_final_result(self.function(model))
