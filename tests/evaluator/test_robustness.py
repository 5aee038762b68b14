"""Robust accuracy of networks whose true accuracy is known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import foolbox
import pytest
import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import RobustAccuracy, attacked_accuracy
from nni_robust.evaluator.deployment import exact_arithmetic
from nni_robust.evaluator.outcome import Robustness
from nni_robust.evaluator.robustness import measure_robustness


class Threshold(nn.Module):
    """Returns class 1 if the mean of the image is above one half, so that margins are known."""

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
def test_accuracy_follows_from_the_known_margins(epsilon, robust):
    accuracy = attacked_accuracy(Threshold(), X, Y, attacks=[attack(epsilon)], batch_size=2)
    assert accuracy == {"clean": 5 / 6, "fgsm": robust / 6, "robust": robust / 6}


@dataclass(frozen=True, kw_only=True)
class Push(Attack):
    """Moves every pixel by the same amount, whatever the class."""

    by: float = 0.0

    def _perturb(self, network, x, y, generator):
        return self.threat_model.project(x + self.by, x)


@dataclass(frozen=True, kw_only=True)
class Pull(Push):
    """The same attack under another name."""


def test_the_worst_case_is_taken_for_each_image():
    threat_model = ThreatModel(epsilon=0.1)
    up, down = Push(threat_model=threat_model, by=0.1), Pull(threat_model=threat_model, by=-0.1)
    accuracy = attacked_accuracy(Threshold(), X, Y, attacks=[up, down])
    assert accuracy["push"] == 4 / 6  # 0.45 is pushed over the threshold
    assert accuracy["pull"] == 4 / 6  # 0.55 is pulled below it
    assert accuracy["robust"] == 3 / 6


def test_leaving_out_fooled_images_does_not_change_the_worst_case():
    threat_model = ThreatModel(epsilon=0.1)
    suite = [Push(threat_model=threat_model, by=0.1), Pull(threat_model=threat_model, by=-0.1)]
    leaving = measure_robustness(Threshold(), X, Y, attacks=suite)
    staying = measure_robustness(Threshold(), X, Y, attacks=suite, keep_fooled=True)
    # Moving up fools the third image, moving down the fourth. The sixth is of class 0.
    assert leaving.outcomes == {"clean": "111110", "push": "11011-", "pull": "11-01-"}
    assert staying.outcomes == {"clean": "111110", "push": "11011-", "pull": "11101-"}
    assert leaving.robust_mask == staying.robust_mask == [True, True, False, False, True, False]
    assert leaving.accuracies() == {"clean": 5 / 6, "push": 4 / 6, "pull": 3 / 6, "robust": 3 / 6}


def test_a_result_counts_its_images_and_becomes_plain_json():
    result = Robustness(outcomes={"clean": "1110", "fgsm": "110-", "pgd": "10--"})
    summary = json.loads(json.dumps(result.as_json()))
    assert summary["num_images"] == 4
    assert summary["asked"] == {"clean": 4, "fgsm": 3, "pgd": 2}
    assert summary["right"] == {"clean": 3, "fgsm": 2, "pgd": 1, "robust": 1}
    assert summary["clopper_pearson"]["clean"] == pytest.approx([0.1941, 0.9937], abs=5e-5)
    assert Robustness(outcomes=json.loads(json.dumps(result.outcomes))) == result


def test_batches_are_filled_with_the_remaining_images():
    sizes = []

    @dataclass(frozen=True, kw_only=True)
    class Count(Attack):
        def _perturb(self, network, x, y, generator):
            sizes.append(len(x))
            return x

    suite = [
        attack(0.1),
        Count(threat_model=ThreatModel(epsilon=0.1)),
    ]  # fools three
    measure_robustness(Threshold(), X, Y, attacks=suite, batch_size=2)
    assert sizes == [2, 1]


def test_an_attack_does_not_depend_on_those_before_it():
    noisy = Threshold()
    x = images([0.48, 0.49, 0.505, 0.51, 0.52, 0.47]) + 0.05 * torch.rand(
        6, 1, 4, 4, generator=torch.Generator().manual_seed(0)
    )
    y = (x.mean((1, 2, 3)) > 0.5).long()
    drawn = Draw(threat_model=ThreatModel(epsilon=0.2))
    alone = measure_robustness(noisy, x, y, attacks=[drawn], batch_size=4)
    after = measure_robustness(
        noisy, x, y, attacks=[PGD(steps=3), drawn], batch_size=4, keep_fooled=True
    )
    other = measure_robustness(noisy, x, y, attacks=[drawn], batch_size=4, seed=1)
    assert alone.outcomes["draw"] == after.outcomes["draw"]
    assert alone.outcomes["draw"] != other.outcomes["draw"]


@dataclass(frozen=True, kw_only=True)
class Draw(Attack):
    """Noise from the generator that the suite passes on."""

    def _perturb(self, network, x, y, generator):
        return self.threat_model.random_start(x, generator)


def test_progress_counts_the_images_of_every_attack_and_of_the_clean_pass():
    done = []
    suite = [attack(0.1), PGD(steps=2)]
    measure_robustness(Threshold(), X, Y, attacks=suite, batch_size=4, progress=done.append)
    assert sum(done) == len(X) * 3


def test_nan_logits_count_as_misclassified():
    class Broken(Threshold):
        def forward(self, x):
            return super().forward(x) * torch.nan

    with pytest.warns(UserWarning, match="returns NaN logits"):
        result = measure_robustness(Broken(), X, torch.zeros(6).long(), attacks=[attack(0.1)])
    assert result.accuracies()["clean"] == 0  # argmax would say class 0


def test_evaluation_is_in_single_precision():
    seen = []

    class Observed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 2)

        def forward(self, x):
            logits = self.linear(x.flatten(1))
            seen.append(logits.dtype)
            return logits

    with torch.autocast("cpu", dtype=torch.bfloat16):
        measure_robustness(Observed(), X, Y, attacks=[attack(0.1)])
    assert set(seen) == {torch.float32}
    with pytest.raises(ValueError, match=r"must hold float32 .* got linear.weight in torch.bf"):
        measure_robustness(Observed().bfloat16(), X, Y, attacks=[attack(0.1)])


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="needs torch 2.9")
@pytest.mark.parametrize("found", ["none", "tf32"])
def test_reduced_precision_is_switched_off_and_restored(found):
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = found  # from now on torch refuses to read allow_tf32
    try:
        as_found = matmul.fp32_precision, convolution.fp32_precision
        with exact_arithmetic():
            assert (matmul.fp32_precision, convolution.fp32_precision) == ("ieee", "ieee")
            assert torch.backends.cudnn.deterministic
        assert (matmul.fp32_precision, convolution.fp32_precision) == as_found
        assert not torch.backends.cudnn.deterministic
    finally:
        torch.backends.fp32_precision = before


def test_every_module_is_left_in_its_mode():
    network = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), Threshold()).train()
    network[0].eval()
    measure_robustness(network, X, Y, attacks=[attack(0.1)])
    assert [module.training for module in network] == [False, True, True]


def test_an_empty_batch_size_is_refused():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        measure_robustness(Threshold(), X, Y, attacks=[attack(0.1)], batch_size=0)


def test_images_that_are_misclassified_are_not_attacked():
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Count(Attack):
        def _perturb(self, network, x, y, generator):
            seen.append(len(x))
            return x

    attacked_accuracy(Threshold(), X, Y, attacks=[Count()], batch_size=6)
    assert seen == [5]


def test_the_result_does_not_depend_on_the_mode_of_the_network():
    network = nn.Sequential(nn.Dropout(0.9), Threshold()).train()
    first = attacked_accuracy(network, X, Y, attacks=[attack(0.1)])
    assert network.training
    assert first == attacked_accuracy(network.eval(), X, Y, attacks=[attack(0.1)])


def test_two_attacks_with_the_same_name_are_refused():
    with pytest.raises(ValueError, match="attacks must differ in name"):
        attacked_accuracy(Threshold(), X, Y, attacks=[PGD(), PGD(step_size=0.1)])


def test_the_evaluator_measures_the_requested_split():
    data = Synthetic(num_classes=2, image_shape=(1, 4, 4), num_examples=60)
    network = Threshold()
    x, y = data.examples("test")
    evaluator = RobustAccuracy(data=data, attacks=[attack(0.1)], split="test")
    expected = attacked_accuracy(network, x, y, attacks=[attack(0.1)])
    assert evaluator.evaluate(network)["default"] == expected["robust"]
    with pytest.raises(ValueError, match="split must be one of"):
        RobustAccuracy(data=data, split="validate")


def test_the_worst_case_agrees_with_foolbox():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
    x = torch.rand(40, 3, 4, 4)
    y = network(x).argmax(1)
    y[:4] = (y[:4] + 1) % 4
    threat_model = ThreatModel(epsilon=0.03)
    suite = [
        FGSM(threat_model=threat_model),
        PGD(threat_model=threat_model, steps=10, step_size=0.01, random_start=False),
    ]
    result = measure_robustness(network, x, y, attacks=suite, batch_size=16)
    host = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    fooled = [
        theirs(host, x, y, epsilons=0.03)[2]
        for theirs in (
            foolbox.attacks.LinfFastGradientAttack(random_start=False),
            foolbox.attacks.LinfPGD(steps=10, abs_stepsize=0.01, random_start=False),
        )
    ]
    assert result.robust_mask == (~(fooled[0] | fooled[1])).tolist()
    assert 0 < sum(result.robust_mask) < 36
