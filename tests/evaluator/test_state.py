"""An evaluation that is stopped goes on, to the result that it would have had."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack, ThreatModel, Transfer
from nni_robust.evaluator.robustness import measure_robustness

WEAK, STRONG = ThreatModel(epsilon=0.02), ThreatModel(epsilon=0.06)


@dataclass(frozen=True, kw_only=True)
class Flaky(Attack):
    """PGD from a random start, until the power fails."""

    calls_left: list[int]  # shared by all copies

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


def suite(calls_left):
    flaky = Flaky(threat_model=STRONG, calls_left=calls_left)
    return [FGSM(threat_model=WEAK), flaky, PGD(threat_model=STRONG, steps=3)]


@pytest.mark.parametrize("keep_fooled", [False, True])
def test_a_stopped_evaluation_goes_on_to_the_same_result(network, batch, tmp_path, keep_fooled):
    options = {"batch_size": 7, "seed": 5, "keep_fooled": keep_fooled}
    whole = measure_robustness(network, *batch, attacks=suite([100]), **options)
    assert 0 < sum(whole.standing) < 40
    calls, path = [2], tmp_path / "folder" / "state.json"
    with pytest.raises(KeyboardInterrupt):
        measure_robustness(network, *batch, attacks=suite(calls), state=path, **options)
    assert "?" in json.loads(path.read_text())["outcomes"]["flaky"]
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]  # no scratch is left
    forget(path)
    calls[0] = 100
    resumed = measure_robustness(network, *batch, attacks=suite(calls), state=path, **options)
    assert resumed == whole
    batches = -(-whole.num_asked("flaky") // 7)
    assert 100 - calls[0] == batches - 2  # what had been done was not done again


def forget(path):
    """Take the count of calls, which is a field of the attack, out of a state's identity."""
    content = json.loads(path.read_text())
    content["evaluation"]["attacks"][1]["calls_left"] = [100]
    path.write_text(json.dumps(content))


def test_a_finished_evaluation_is_read_without_an_attack(network, batch, tmp_path):
    path, attacks = tmp_path / "state.json", [PGD(threat_model=STRONG, steps=2)]
    first = measure_robustness(network, *batch, attacks=attacks, state=path)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    assert measure_robustness(network, *batch, attacks=attacks, state=path) == first
    assert calls == []


def test_a_state_of_another_evaluation_is_refused(network, batch, tmp_path):
    path, attacks = tmp_path / "state.json", [PGD(threat_model=STRONG, steps=2)]
    x, y = batch
    measure_robustness(network, x, y, attacks=attacks, state=path)

    def again(other=network, x=x, attacks=attacks, **options):
        measure_robustness(other, x, y, attacks=attacks, state=path, **options)

    def refused(what):
        return pytest.raises(ValueError, match=rf"very evaluation, .*state.json' differs in {what}")

    with refused("attacks"):
        again(attacks=[PGD(threat_model=WEAK, steps=2)])
    with refused("images"):
        again(x=x.flip(0))
    with refused("seed"):
        again(seed=1)
    with refused("batch_size, keep_fooled"):
        again(batch_size=3, keep_fooled=True)
    with refused("network"):
        again(nn.Sequential(network, nn.ReLU()))  # the same weights, another function
    network[1].bias.data[0] += 1e-6
    with refused("network"):
        again()


def test_the_source_of_a_transfer_belongs_to_the_suite(network, batch, tmp_path):
    path, source = tmp_path / "state.json", nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    attacks = [Transfer(source=source, attack=FGSM(threat_model=STRONG))]
    measure_robustness(network, *batch, attacks=attacks, state=path)
    source[1].weight.data.neg_()
    with pytest.raises(ValueError, match="differs in attacks"):
        measure_robustness(network, *batch, attacks=attacks, state=path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "eval', "is damaged: .* Delete it to start again"),
        ("[]", "is damaged"),
        ('{"format": 1, "evaluation": {}, "outcomes": []}', "is damaged"),
        ('{"format": 3, "evaluation": {}, "outcomes": {}}', "must have format 2, got 3"),
    ],
)
def test_a_damaged_state_is_named(network, batch, tmp_path, text, message):
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        measure_robustness(network, *batch, attacks=[FGSM()], state=path)
