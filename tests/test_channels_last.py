"""Channels-last weights give the same network and are restored afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import FGSM
from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.evaluator.robustness import measure_robustness
from nni_robust.network_state import channels_last, put_channels_last
from nni_robust.space import RobNetSpace
from nni_robust.training import Recipe


@pytest.fixture
def network():
    torch.manual_seed(0)
    sizes = {"num_cells": 3, "width": 4, "num_classes": 10}
    return RobNetSpace.load_searched_model("robnet-large", **sizes).double().eval()


def are_channels_last(network: nn.Module) -> list[bool]:
    weights = [p for p in network.parameters() if p.dim() == 4]
    return [p.is_contiguous(memory_format=torch.channels_last) for p in weights]


def test_the_network_computes_the_same(network):
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    expected = network(x)
    put_channels_last(network)
    assert all(are_channels_last(network))
    assert_close(network(x), expected)
    features = []
    network.cells[-1].register_forward_hook(lambda *args: features.append(args[2]))
    network(x)
    assert features[0].is_contiguous(memory_format=torch.channels_last)  # up to the last layer


def test_an_evaluation_leaves_weights_as_it_found_them(network):
    network = network.float()
    before = [p.stride() for p in network.parameters()]
    seen = []
    network.register_forward_pre_hook(lambda *_: seen.append(all(are_channels_last(network))))
    x, y = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    measure_robustness(network, x, y, attacks=[FGSM()])
    assert seen
    assert all(seen)
    assert [p.stride() for p in network.parameters()] == before


def test_weights_that_are_channels_last_already_stay_so(network):
    put_channels_last(network)
    with channels_last(network):
        pass
    assert all(are_channels_last(network))


def test_an_optimiser_keeps_its_references_to_the_weights(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    put_channels_last(network)
    before = copy.deepcopy(network.state_dict())
    network(torch.rand(2, 3, 32, 32, dtype=torch.float64)).sum().backward()
    optimizer.step()
    moved = [name for name, value in network.state_dict().items() if (value != before[name]).any()]
    assert {name for name, _ in network.named_parameters()} <= {*moved}


def test_a_training_uses_channels_last():
    data = Synthetic(num_examples=60, image_shape=(3, 8, 8), batch_size=20)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    trainer = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    evaluator = AdversarialClassification(
        data=data,
        train_attack=None,
        recipe=Recipe(learning_rate=0.01),
        max_epochs=1,
        callbacks=[],
        accelerator="cpu",
        limit_val_batches=0,
        **trainer,
    )
    evaluator.evaluate(network)
    assert are_channels_last(network) == [True]
