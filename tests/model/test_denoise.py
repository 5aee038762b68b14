"""Feature denoising: published sizes, the formulas, and the identity at the start."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from nni_robust.model import DenoisingBlock, resnet

MEANS = ["gaussian", "dot_product"]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(0))


def block_of(mean: str, *, channels: int = 6) -> DenoisingBlock:
    torch.manual_seed(1)
    return DenoisingBlock(channels, mean=mean)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("channels", "added"), [(144, 41_760), (288, 166_464), (576, 664_704)])
def test_a_block_has_the_published_size(channels, added):
    assert count(DenoisingBlock(channels)) == added


def test_a_resnet18_has_four_blocks_after_its_stages():
    network = resnet(18, denoise=True)
    assert count(network) == 11_872_202
    assert [type(stage[-1]) for stage in network.stages] == [DenoisingBlock] * 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mean", MEANS)
def test_a_block_starts_as_the_identity(mean, training, x):
    assert torch.equal(block_of(mean).train(training)(x), x)


def test_adding_blocks_does_not_change_the_logits_of_a_trained_network():
    torch.manual_seed(0)
    plain, denoised = resnet(18, width=0.125), resnet(18, width=0.125, denoise=True)
    state = denoised.load_state_dict(plain.state_dict(), strict=False)
    images = torch.rand(2, 3, 16, 16)
    assert not state.unexpected_keys
    assert torch.equal(denoised.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("mean", MEANS)
def test_a_block_that_is_the_identity_can_learn(mean, x):
    block = block_of(mean)
    block(x).square().sum().backward()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter -= 0.1 * parameter.grad
    assert not torch.equal(block(x), x)


@torch.no_grad()
def test_the_gaussian_mean_is_the_formula(x):
    block = block_of("gaussian")
    for embedding in (block.mean.theta, block.mean.phi):
        embedding.weight.normal_()  # far from the almost equal weights at the start
    theta, phi = (m.weight[:, :, 0, 0] for m in (block.mean.theta, block.mean.phi))
    expected = torch.empty_like(x)
    for n in range(2):
        positions = x[n].flatten(1).T  # (H W, C)
        for i, at_i in enumerate(positions):
            scores = [float((theta @ at_i) @ (phi @ at_j)) / math.sqrt(3) for at_j in positions]
            total = sum(math.exp(score) for score in scores)
            weighted = zip(scores, positions, strict=True)
            mean = sum(math.exp(score) / total * at_j for score, at_j in weighted)
            expected[n, :, i // 5, i % 5] = mean
    assert_close(block.mean(x), expected)


@torch.no_grad()
def test_the_dot_product_mean_is_the_formula(x):
    expected = torch.empty_like(x)
    for n in range(2):
        positions = x[n].flatten(1).T  # (H W, C)
        for i, at_i in enumerate(positions):
            mean = sum(float(at_i @ at_j) * at_j for at_j in positions) / 15
            expected[n, :, i // 5, i % 5] = mean
    assert_close(block_of("dot_product").mean(x), expected)


@torch.no_grad()
def test_gaussian_attention_sums_to_one(x):
    # A mean whose weights sum to 1 does not change a constant channel.
    mean = block_of("gaussian").mean
    mean.theta.weight.normal_()
    x[:, 2] = 7.0
    assert_close(mean(x)[:, 2], x[:, 2])


def test_embeddings_start_small():
    mean = block_of("gaussian", channels=128).mean
    for embedding in (mean.theta, mean.phi):  # 8192 draws: the standard error is 0.8 %
        assert embedding.weight.std().item() == pytest.approx(0.01, rel=0.04)


@pytest.mark.parametrize("mean", MEANS)
@torch.no_grad()
def test_a_mean_does_not_depend_on_the_order_of_positions(mean, x):
    module = block_of(mean).mean
    order = torch.randperm(15)
    shuffled = x.flatten(2)[..., order].reshape(x.shape)
    assert_close(module(shuffled), module(x).flatten(2)[..., order].reshape(x.shape))


@pytest.mark.parametrize(
    ("channels", "mean", "message"),
    [
        (8, "median", r"mean must be one of \['gaussian', 'dot_product'\], got 'median'\.$"),
        (1, "gaussian", r"channels must be at least 2, .*, got 1\.$"),
    ],
)
def test_wrong_arguments_are_refused(channels, mean, message):
    with pytest.raises(ValueError, match=message):
        DenoisingBlock(channels, mean=mean)
