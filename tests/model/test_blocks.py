"""Building blocks of the reference networks, compared with their formulas.

In evaluation mode an untrained batch norm divides by a constant; in the formulas this is `bn`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu, relu6
from torch.testing import assert_close

from nni_robust.model import mobilenet_v2
from nni_robust.model.densenet import DenseLayer
from nni_robust.model.resnet import basic_block, bottleneck
from nni_robust.model.wide_resnet import PreActivationBlock

conv3 = partial(conv2d, padding=1)


def bn(x: Tensor) -> Tensor:
    return x / (1 + 1e-5) ** 0.5


def basic(x: Tensor, first: Tensor, second: Tensor, shortcut: Tensor) -> Tensor:
    branch = bn(conv3(relu(bn(conv3(x, first, stride=2))), second))
    return relu(branch + bn(conv2d(x, shortcut, stride=2)))


def grouped(x: Tensor, reduce: Tensor, middle: Tensor, expand: Tensor, shortcut: Tensor) -> Tensor:
    inner = relu(bn(conv2d(x, reduce)))
    inner = relu(bn(conv3(inner, middle, stride=2, groups=2)))
    return relu(bn(conv2d(inner, expand)) + bn(conv2d(x, shortcut, stride=2)))


def pre_activation(x: Tensor, first: Tensor, second: Tensor, shortcut: Tensor) -> Tensor:
    activated = relu(bn(x))
    branch = conv3(relu(bn(conv3(activated, first, stride=2))), second)
    return branch + conv2d(activated, shortcut, stride=2)


def pre_activation_kept(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return x + conv3(relu(bn(conv3(relu(bn(x)), first))), second)


def dense(x: Tensor, reduce: Tensor, grow: Tensor) -> Tensor:
    return torch.cat([x, conv3(relu(bn(conv2d(relu(bn(x)), reduce))), grow)], 1)


def inverted(x: Tensor, expand: Tensor, depthwise: Tensor, project: Tensor) -> Tensor:
    inner = relu6(bn(conv2d(x, expand)))
    inner = relu6(bn(conv3(inner, depthwise, groups=len(depthwise))))
    return x + bn(conv2d(inner, project))


@pytest.mark.parametrize(
    ("build", "formula"),
    [
        (lambda: basic_block(4, 6, 2), basic),
        (lambda: bottleneck(4, 8, 2, expansion=2, groups=2), grouped),
        (lambda: PreActivationBlock(4, 6, 2), pre_activation),
        (lambda: PreActivationBlock(4, 4, 1), pre_activation_kept),
        (lambda: DenseLayer(4, 3), dense),
        (lambda: mobilenet_v2(width=0.125).stages[2][1], inverted),
    ],
    ids=["basic", "bottleneck", "pre-activation", "pre-activation kept", "dense", "inverted"],
)
@torch.no_grad()
def test_a_block_computes_its_formula(
    build: Callable[[], nn.Module], formula: Callable[..., Tensor]
):
    torch.manual_seed(0)
    block = build().eval()
    weights = [p for p in block.parameters() if p.dim() == 4]
    x = 9 * torch.randn(2, 4, 5, 5)  # large enough for ReLU6 to saturate
    assert_close(block(x), formula(x, *weights))
