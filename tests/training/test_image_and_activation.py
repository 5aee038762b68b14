"""Cutout, and activations instead of ReLU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_robust.model import MODELS
from nni_robust.model.activation import ACTIVATIONS, replace_relu
from nni_robust.training.cutout import cutout


def test_cutout_is_one_square_of_the_given_size_cut_at_the_border():
    x = torch.ones(400, 2, 9, 7)
    holed = cutout(x, 4, torch.Generator().manual_seed(0))
    for image in holed:
        assert torch.equal(image[0], image[1])
        rows, columns = (image[0] == 0).nonzero().T
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == height * width  # a full rectangle
        assert height == 4 or rows.min() == 0 or rows.max() == 8
        assert width == 4 or columns.min() == 0 or columns.max() == 6
    # A pixel in the middle is hit with probability 4/9 * 4/7.
    hit = (holed[:, 0, 4, 3] == 0).float().mean()
    assert hit.item() == pytest.approx(16 / 63, abs=0.06)


def test_cutout_does_not_change_its_input():
    x = torch.ones(2, 1, 4, 4)
    cutout(x, 2, torch.Generator().manual_seed(0))
    assert torch.equal(x, torch.ones(2, 1, 4, 4))


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
