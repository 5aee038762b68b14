"""Activations that replace the ReLUs of a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_robust.model import MODELS
from nni_robust.model.activation import ACTIVATIONS, replace_relu


def test_every_relu_of_a_network_is_replaced():
    network = MODELS["resnet18"](width=0.1)
    count = sum(isinstance(module, nn.ReLU) for module in network.modules())
    replace_relu(network, ACTIVATIONS["silu"])
    assert sum(isinstance(module, nn.SiLU) for module in network.modules()) == count > 0
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def test_a_network_without_relu_is_refused():
    with pytest.raises(ValueError, match=r"network must have modules of type nn\.ReLU"):
        replace_relu(nn.Sequential(nn.Tanh()), nn.SiLU)
