"""Robust accuracy on networks of which the answer is known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import RobustAccuracy, attacked_accuracy


class Threshold(nn.Module):
    """Class 1 if the mean of the image is above one half; the margin is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.scale * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], 1)


def images(levels: list[float]) -> torch.Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()


def attack(epsilon: float) -> Attack:
    return FGSM(threat_model=ThreatModel(epsilon=epsilon))


X = images([0.2, 0.35, 0.45, 0.55, 0.9, 0.7])
Y = torch.tensor([0, 0, 0, 1, 1, 0])  # the last one is misclassified without an attack


@pytest.mark.parametrize(("epsilon", "robust"), [(0.01, 5), (0.1, 3), (0.2, 2), (0.45, 0)])
def test_accuracy_is_that_of_the_known_margins(epsilon, robust):
    accuracy = attacked_accuracy(Threshold(), X, Y, attacks=[attack(epsilon)], batch_size=2)
    assert accuracy == {"clean": 5 / 6, "fgsm": robust / 6, "robust": robust / 6}


@dataclass(frozen=True, kw_only=True)
class Push(Attack):
    """Moves every pixel up or down, whatever the class."""

    by: float = 0.0

    def _perturb(self, network, x, y, generator):
        return self.threat_model.project(x + self.by, x)


@dataclass(frozen=True, kw_only=True)
class Pull(Push):
    """The same under another name."""


def test_the_worst_case_is_taken_for_each_image():
    threat_model = ThreatModel(epsilon=0.1)
    up, down = Push(threat_model=threat_model, by=0.1), Pull(threat_model=threat_model, by=-0.1)
    accuracy = attacked_accuracy(Threshold(), X, Y, attacks=[up, down])
    assert accuracy["push"] == 4 / 6  # 0.45 is pushed over the threshold
    assert accuracy["pull"] == 4 / 6  # 0.55 is pulled below it
    assert accuracy["robust"] == 3 / 6


def test_images_that_are_misclassified_are_not_attacked():
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Count(Attack):
        def _perturb(self, network, x, y, generator):
            seen.append(len(x))
            return x

    attacked_accuracy(Threshold(), X, Y, attacks=[Count()], batch_size=6)
    assert seen == [5]


def test_the_result_does_not_depend_on_the_mode_and_leaves_it():
    network = nn.Sequential(nn.Dropout(0.9), Threshold()).train()
    first = attacked_accuracy(network, X, Y, attacks=[attack(0.1)])
    assert network.training
    assert first == attacked_accuracy(network.eval(), X, Y, attacks=[attack(0.1)])


def test_two_attacks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="attacks must differ in name"):
        attacked_accuracy(Threshold(), X, Y, attacks=[PGD(), PGD(step_size=0.1)])


def test_the_evaluator_measures_the_split_it_is_told():
    data = Synthetic(num_classes=2, image_shape=(1, 4, 4), num_examples=60)
    network = Threshold()
    x, y = data.examples("test")
    evaluator = RobustAccuracy(data=data, attacks=[attack(0.1)], split="test")
    expected = attacked_accuracy(network, x, y, attacks=[attack(0.1)])
    assert evaluator.evaluate(network)["default"] == expected["robust"]
    with pytest.raises(ValueError, match="split must be"):
        RobustAccuracy(data=data, split="validate")
