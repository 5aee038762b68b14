"""Reference networks: published sizes and costs, and what holds for every network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from nni_robust.model import (
    MODELS,
    ReferenceNetwork,
    densenet121,
    mobilenet_v2,
    resnet,
    resnext29,
    vgg,
    wide_resnet,
)

# Parameters for 10 classes, which the papers round, and inputs of the classifier.
CIFAR = {
    "resnet18": (11_173_962, 512),
    "resnet34": (21_282_122, 512),
    "resnet50": (23_520_842, 2048),
    "resnet101": (42_512_970, 2048),
    "resnet152": (58_156_618, 2048),
    "wrn28_10": (36_479_194, 640),
    "resnext29_2x64d": (9_128_778, 1024),
    "densenet121": (6_956_298, 1024),
    "vgg16": (14_728_266, 512),
    "vgg19": (20_040_522, 512),
    "mobilenet_v2": (2_296_922, 1280),
}

# Parameters for 1000 classes, and billions of multiplications at 224x224, from torchvision.
IMAGENET = {
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
    "densenet121": (7_978_856, 2.83),
    "vgg16": (138_365_992, 15.47),
    "vgg19": (143_678_248, 19.63),
    "mobilenet_v2": (3_504_872, 0.30),
}

# Resolution of the image divided by that of the output of each stage.
CIFAR_STRIDES = {
    **dict.fromkeys(["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"], (1, 2, 4, 8)),
    **dict.fromkeys(["wrn28_10", "resnext29_2x64d"], (1, 2, 4)),
    "densenet121": (1, 2, 4, 8),
    **dict.fromkeys(["vgg16", "vgg19"], (2, 4, 8, 16, 32)),
    "mobilenet_v2": (1, 1, 2, 4, 4, 8, 8, 8),
}


def build(builder: Callable[..., ReferenceNetwork], **options: object) -> ReferenceNetwork:
    """Build a network on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return builder(**options)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def multiplications(network: nn.Module, size: int) -> float:
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2  # each is a multiplication and an addition


@pytest.fixture(params=MODELS)
def narrow(request: pytest.FixtureRequest) -> ReferenceNetwork:
    torch.manual_seed(0)
    return MODELS[request.param](width=0.125)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_every_model_has_a_published_size_to_compare_with():
    assert set(CIFAR) == set(CIFAR_STRIDES) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_for_small_images_has_the_published_size(name):
    parameters, features = CIFAR[name]
    assert count(build(MODELS[name])) == parameters
    assert count(build(MODELS[name], num_classes=100)) == parameters + 90 * (features + 1)


@pytest.mark.parametrize("name", IMAGENET)
def test_a_network_for_large_images_has_the_published_size_and_cost(name):
    parameters, billions = IMAGENET[name]
    network = build(MODELS[name], num_classes=1000, stem="imagenet")
    assert count(network) == parameters
    assert multiplications(network, 224) / 1e9 == pytest.approx(billions, abs=0.006)


@pytest.mark.parametrize(("depth", "widen"), [(10, 1), (16, 4), (34, 10)])
def test_the_size_of_a_wide_resnet_follows_from_depth_and_width(depth, widen):
    expected, channels = 27 * 16, 16  # the stem
    for wide in (16 * widen, 32 * widen, 64 * widen):
        for _ in range((depth - 4) // 6):
            expected += 2 * channels + 9 * channels * wide + 2 * wide + 9 * wide**2
            expected += channels * wide if wide != channels else 0  # the shortcut
            channels = wide
    expected += 2 * channels + 10 * (channels + 1)
    assert count(build(partial(wide_resnet, depth, widen))) == expected


@pytest.mark.parametrize(("cardinality", "group_width"), [(1, 8), (4, 6), (32, 4)])
def test_the_size_of_a_resnext_follows_from_its_cardinality(cardinality, group_width):
    expected, channels = 3 * 64 + 2 * 64, 64  # the stem
    for stage in range(3):
        inner = cardinality * group_width * 2**stage
        for block in range(3):
            expected += channels * inner + 9 * inner**2 // cardinality + inner * 2 * inner
            expected += 2 * (inner + inner + 2 * inner)  # batch norm
            expected += 0 if block else (channels + 2) * 2 * inner  # the shortcut
            channels = 2 * inner
    expected += 10 * (channels + 1)
    assert count(build(partial(resnext29, cardinality, group_width))) == expected


def test_half_the_width_has_a_quarter_of_the_weights_of_inner_layers():
    half, full = (build(MODELS["resnet18"], width=width) for width in (0.5, 1.0))
    for small, large in zip(half.stages.parameters(), full.stages.parameters(), strict=True):
        assert large.numel() == small.numel() * (4 if large.dim() > 1 else 2)


@pytest.mark.parametrize("name", MODELS)
def test_stages_divide_the_resolution_as_published(name):
    features = torch.rand(1, 3, 32, 32)
    network = MODELS[name](width=0.125).eval()
    strides = []
    with torch.no_grad():
        features = network.stem(features)
        for stage in network.stages:
            features = stage(features)
            assert features.shape[2] == features.shape[3]
            strides.append(32 // features.shape[2])
    assert tuple(strides) == CIFAR_STRIDES[name]


def test_logits_are_finite(narrow, x):
    logits = narrow(x)
    assert logits.shape == (4, 10)
    assert logits.isfinite().all()


def test_every_weight_and_the_image_receive_a_gradient(narrow, x):
    x.requires_grad_()
    nn.functional.cross_entropy(narrow(x), torch.arange(4)).backward()
    assert x.grad.abs().amax((1, 2, 3)).min() > 0
    # Not the biases of the convolutions in VGG: the batch norm after them cancels them.
    weights = {name: p for name, p in narrow.named_parameters() if p.dim() > 1}
    assert not [name for name, p in weights.items() if not p.grad.abs().max() > 0]


@torch.no_grad()
def test_in_evaluation_mode_logits_do_not_depend_on_the_batch(narrow, x):
    narrow(x)  # running statistics that are not the initial ones
    narrow.eval()
    logits = narrow(x)
    assert torch.equal(narrow(x), logits)
    assert_close(narrow(x[2:3]), logits[2:3], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_network_classifies_small_grey_images(name):
    network = MODELS[name](in_channels=1, width=0.125)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert network.eval()(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", IMAGENET)
@torch.no_grad()
def test_a_network_classifies_large_images(name):
    network = MODELS[name](num_classes=200, stem="imagenet", width=0.125)
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 200)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, r"num_classes must be a whole number of at least 2, got 1\.$"),
        ({"in_channels": 0}, r"in_channels must be a whole number of at least 1, got 0\.$"),
        ({"stem": "large"}, r"stem must be one of \['cifar'.*\], got 'large'\.$"),
        ({"width": 0.0}, r"width must be a finite factor .*, got 0\.0\.$"),
        ({"width": -1.0}, r"width must be a finite factor .*, got -1\.0\.$"),
        ({"width": math.inf}, r"width must be a finite factor .*, got inf\.$"),
        ({"width": math.nan}, r"width must be a finite factor .*, got nan\.$"),
    ],
)
def test_wrong_arguments_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        MODELS[name](**options)


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (partial(resnet, 20), r"depth must be one of \[18, 34, 50, 101, 152\], got 20\.$"),
        (partial(vgg, 11), r"depth must be one of \[16, 19\], got 11\.$"),
        (partial(wide_resnet, 30, 10), r"depth must be 4 more than .*, got 30\.$"),
        (partial(wide_resnet, 4, 10), r"depth must be 4 more than .*, got 4\.$"),
        (partial(wide_resnet, 28, 0), r"widen must be a whole number of at least 1, got 0\.$"),
        (partial(resnext29, 0, 64), r"cardinality must be a whole number of at least 1, got 0\.$"),
        (partial(resnext29, 2, 0), r"group_width must be a whole number of at least 1, got 0\.$"),
        (partial(resnext29, 2, 64, stem="imagenet"), r"\['cifar'\], got 'imagenet'\.$"),
        (partial(wide_resnet, 28, 10, stem="imagenet"), r"\['cifar'\], got 'imagenet'\.$"),
    ],
)
def test_a_family_refuses_unknown_sizes(builder, message):
    with pytest.raises(ValueError, match=message):
        builder()


def test_every_family_is_in_the_table():
    families = {getattr(builder, "func", builder) for builder in MODELS.values()}
    assert families == {densenet121, mobilenet_v2, resnet, resnext29, vgg, wide_resnet}
