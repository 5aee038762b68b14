"""A stopped evaluation continues and gives the result that it would have given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack, ThreatModel, Transfer
from nni_robust.evaluator.robustness import measure_robustness

WEAK, STRONG = ThreatModel(epsilon=0.02), ThreatModel(epsilon=0.06)


@dataclass(frozen=True, kw_only=True)
class Flaky(Attack):
    """PGD from a random start, interrupted after a number of calls."""

    calls_left: ClassVar[list[int]] = [0]  # not part of the evaluation

    def _perturb(self, network, x, y, generator):
        self.calls_left[0] -= 1
        if self.calls_left[0] < 0:
            raise KeyboardInterrupt
        return PGD(threat_model=self.threat_model, steps=1)(network, x, y, generator=generator)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


@pytest.fixture
def batch(network):
    x = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return x, network(x).argmax(1)


SUITE = [FGSM(threat_model=WEAK), Flaky(threat_model=STRONG), PGD(threat_model=STRONG, steps=3)]


@pytest.mark.parametrize("keep_fooled", [False, True])
def test_a_stopped_evaluation_continues_to_the_same_result(network, batch, tmp_path, keep_fooled):
    options = {"batch_size": 7, "seed": 5, "keep_fooled": keep_fooled}
    Flaky.calls_left[0] = 100
    whole = measure_robustness(network, *batch, attacks=SUITE, **options)
    assert 0 < sum(whole.robust_mask) < 40
    Flaky.calls_left[0], folder = 2, tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt):
        measure_robustness(network, *batch, attacks=SUITE, state=folder, **options)
    (file,) = folder.iterdir()  # no temporary file is left
    assert "?" in json.loads(file.read_text())["outcomes"]["flaky"]
    Flaky.calls_left[0] = 100
    resumed = measure_robustness(network, *batch, attacks=SUITE, state=folder, **options)
    assert resumed == whole
    batches = -(-whole.num_asked("flaky") // 7)
    assert 100 - Flaky.calls_left[0] == batches - 2  # finished batches are not repeated


def test_a_finished_evaluation_is_read_without_an_attack(network, batch, tmp_path):
    attacks = [PGD(threat_model=STRONG, steps=2)]
    first = measure_robustness(network, *batch, attacks=attacks, state=tmp_path)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    assert measure_robustness(network, *batch, attacks=attacks, state=tmp_path) == first
    assert calls == []


def test_every_evaluation_has_its_own_file(network, batch, tmp_path):
    attacks = [PGD(threat_model=STRONG, steps=2)]
    x, y = batch

    def files_after(other=network, x=x, attacks=attacks, **options):
        measure_robustness(other, x, y, attacks=attacks, state=tmp_path, **options)
        return len([*tmp_path.iterdir()])

    assert files_after() == 1
    assert files_after() == 1
    assert files_after(attacks=[PGD(threat_model=WEAK, steps=2)]) == 2
    assert files_after(x=x.flip(0)) == 3
    assert files_after(seed=1) == 4
    assert files_after(batch_size=3) == 5
    assert files_after(keep_fooled=True) == 6
    assert files_after(nn.Sequential(network, nn.ReLU())) == 7  # the same weights
    network[1].bias.data[0] += 1e-6
    assert files_after() == 8


def test_the_source_of_a_transfer_is_part_of_the_identity(network, batch, tmp_path):
    source = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    attacks = [Transfer(source=source, attack=FGSM(threat_model=STRONG))]
    for _ in range(2):
        measure_robustness(network, *batch, attacks=attacks, state=tmp_path)
        source[1].weight.data.neg_()
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 2, "eval',
        "[]",
        '{"outcomes": []}',
        '{"outcomes": {"clean": "111"}}',
        '{"outcomes": {"clean": "111", "fgsm": "1"}}',
        '{"outcomes": {"clean": "1111", "fgsm": "1111"}}',
        '{"outcomes": {"clean": "11x", "fgsm": "111"}}',
        '{"outcomes": {"fgsm": "111", "clean": "111"}}',
    ],
)
def test_a_damaged_file_is_named(network, batch, tmp_path, text):
    x, y = (values[:3] for values in batch)
    measure_robustness(network, x, y, attacks=[FGSM()], state=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    with pytest.raises(ValueError, match=r"is damaged: .* Delete it to start again"):
        measure_robustness(network, x, y, attacks=[FGSM()], state=tmp_path)
