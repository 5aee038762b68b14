"""Lipschitz constants of operations against whole matrices and pairs of feature maps."""

from __future__ import annotations

import math

# NNI's strategies must be imported before its one-shot ones, which its model hub imports.
import nni.nas.strategy  # noqa: F401  # isort: skip
import pytest
import torch
from nni.nas.hub.pytorch.nasbench201 import OPS_WITH_STRIDE
from nni.nas.hub.pytorch.nasnet import OPS as HUB_OPS
from nni.nas.hub.pytorch.utils.nn import DropPath
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from nni_robust.functional.convolution_norm import Convolution, circular_norm
from nni_robust.op import OPS, Zero
from nni_robust.op.layer_sequence import UnknownOperation, is_zero
from nni_robust.op.lipschitz_constants import LipschitzConstants
from nni_robust.op.lipschitz_factors import lipschitz_factors

SIZE = (6, 6)
CONVOLUTIONS = [name for name in OPS if "conv" in name]


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(11)
        yield


def singular_value(function, channels=4, size=SIZE):
    """Return the largest singular value of a linear map of feature maps, from its whole matrix."""
    with torch.no_grad():
        basis = torch.eye(channels * size[0] * size[1]).view(-1, channels, *size)
        return torch.linalg.svdvals((function(basis) - function(0 * basis)).flatten(1))[0].item()


def constant(module, size=SIZE, *, iterations=1000, **options):
    constants = LipschitzConstants({"it": module}, {"it": size}, **options)
    assert not constants.unknown
    return constants.update(iterations).exp().item()


def linear(separable, with_norm=False):
    """Return the part of a separable convolution that follows its ReLU."""
    return nn.Sequential(*list(separable)[1 : 4 if with_norm else 3])


def as_trained(module):
    """Set statistics and weights of batch norms as in a trained network; return it in eval mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.1, 2)
            if norm.affine:
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    return module.eval()


@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_counts_as_one_map_from_activation_to_activation(name, stride, size):
    operation = OPS[name](4, stride)
    if name.startswith("dil"):
        expected = singular_value(linear(operation), size=size)
    else:
        after = (-(-size[0] // stride), -(-size[1] // stride))
        expected = singular_value(linear(operation.first), size=size)
        expected *= singular_value(linear(operation.second), size=after)
    assert constant(operation, size) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_folded_batch_norm_scales_every_channel_of_the_map(name):
    operation = as_trained(OPS[name](4, 2, affine=True))
    if name.startswith("dil"):
        expected = singular_value(linear(operation, with_norm=True))
    else:
        expected = singular_value(linear(operation.first, with_norm=True))
        expected *= singular_value(linear(operation.second, with_norm=True), size=(3, 3))
    assert constant(operation, fold_batch_norm=True) == pytest.approx(expected, rel=2e-3)


def test_a_strided_identity_counts_its_larger_half():
    operation = as_trained(OPS["skip_connect"](4, 2, affine=True))
    larger = max(
        torch.linalg.svdvals(h.weight[:, :, 0, 0])[0]
        for h in operation.children()
        if isinstance(h, nn.Conv2d)
    )
    assert constant(operation) == pytest.approx(larger.item(), rel=1e-5)
    where_no_relu_acts = singular_value(lambda x: operation(x + 1))
    assert constant(operation, fold_batch_norm=True) == pytest.approx(where_no_relu_acts, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "stride", "paper", "true"),
    [
        ("max_pool_3x3", 1, 1.0, 3.0),
        ("max_pool_3x3", 2, 1.0, 2.0),
        ("avg_pool_3x3", 1, 1.0, 1.008),
        ("avg_pool_3x3", 2, 0.7071, 0.619),
        ("skip_connect", 1, 1.0, 1.0),
        ("none", 1, 0.0, 0.0),
    ],
)
def test_an_operation_without_weights_has_a_fixed_constant(name, stride, paper, true):
    operation, size = OPS[name](4, stride), (16, 16)
    assert constant(operation, size) == pytest.approx(paper, abs=5e-4)
    assert constant(operation, size, pooling="operator") == pytest.approx(true, abs=5e-4)


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_a_batch_norm_after_a_pooling_counts_its_largest_factor(name):
    operation = as_trained(OPS[name](4, 1))
    factor = (operation[1].running_var + operation[1].eps).rsqrt().max().item()
    assert constant(operation, fold_batch_norm=True) == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_no_pair_of_feature_maps_moves_further_apart_than_the_constant(name, stride, affine):
    operation = as_trained(OPS[name](4, stride, affine))
    bound = constant(operation, fold_batch_norm=True, pooling="operator")
    x = torch.randn(100, 4, *SIZE)
    y = x + torch.randn_like(x) * torch.logspace(-2, 1, 100).view(-1, 1, 1, 1)
    with torch.no_grad():
        moved = (operation(x) - operation(y)).flatten(1).norm(dim=1)
    assert (moved <= 1.001 * bound * (x - y).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_layer_by_layer_the_constant_is_the_product_of_upper_bounds(name):
    operation, (kernel, dilation) = OPS[name](4, 2), (int(name[-1]), 2 if "dil" in name else 1)
    spatial = Convolution(groups=4, dilation=(dilation, dilation))  # a bound at every stride
    expected, size = 1.0, SIZE
    for layer in operation.modules():
        if isinstance(layer, nn.Conv2d):
            convolution = spatial if layer.kernel_size == (kernel, kernel) else Convolution()
            expected *= circular_norm(layer.weight[None], convolution, size).item()
            size = (3, 3)
    assert constant(operation, method="layers") == pytest.approx(expected)
    assert constant(operation, method="layers") > constant(operation)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_reshaped_the_constant_is_the_product_of_norms_of_matrices(name):
    operation = OPS[name](4, 2)
    matrices = [m.weight.flatten(1) for m in operation.modules() if isinstance(m, nn.Conv2d)]
    expected = math.prod(torch.linalg.svdvals(matrix)[0].item() for matrix in matrices)
    assert constant(operation, method="reshaped") == pytest.approx(expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_the_hubs_operations_have_the_constants_of_ours(name, stride):
    ours, theirs = OPS[name](4, stride, True), HUB_OPS[name](4, stride, True)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(mine.data)
    for options in ({}, {"method": "layers"}, {"fold_batch_norm": True}):
        assert constant(theirs, iterations=9, **options) == constant(ours, iterations=9, **options)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS_WITH_STRIDE)
def test_every_operation_of_nasbench_201_is_measured(name, stride):
    operation = OPS_WITH_STRIDE[name](4, 4, stride)
    found = constant(operation)
    if "conv" in name and "skip" not in name:
        (layer,) = (m for m in operation.modules() if isinstance(m, nn.Conv2d))
        assert found == pytest.approx(singular_value(layer), rel=2e-3)
    else:
        assert found == (0.0 if name == "none" else pytest.approx(found))


def test_drop_path_counts_nothing():
    operation = OPS["dil_conv_3x3"](4, 1)
    dropped = nn.Sequential(operation, DropPath(0.3))
    assert constant(dropped, iterations=9) == constant(operation, iterations=9)


def test_convolutions_in_a_row_count_as_one_map():
    row = nn.Sequential(*HUB_OPS["conv_3x1_1x3"](4, 2, True), nn.Dropout(), nn.Conv2d(4, 2, 2))
    expected = singular_value(nn.Sequential(row[1], row[2], row[5]))
    assert constant(row) == pytest.approx(expected, rel=2e-3)


def test_linear_layers_are_matrices():
    first, second, third = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 2)
    expected = torch.linalg.svdvals(second.weight @ first.weight)[0]
    expected = (expected * torch.linalg.svdvals(third.weight)[0]).item()
    assert constant(nn.Sequential(first, second, nn.Tanh(), third), (1, 1)) == pytest.approx(
        expected, rel=1e-4
    )


class Row(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.blocks = nn.Conv2d(4, 4, 3), nn.ModuleList([OPS["dil_conv_3x3"](4, 1)])

    def forward(self, x):
        x = F.relu(self.first(x))
        for block in self.blocks:
            x = block(x)
        return x


def test_a_forward_that_applies_one_layer_after_the_other_is_followed():
    row = Row()
    expected = singular_value(row.first) * singular_value(linear(row.blocks[0]), size=(4, 4))
    assert constant(row) == pytest.approx(expected, rel=2e-3)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Residual(nn.Conv2d(4, 4, 1)), "Residual is not a row of layers: it has a step 'add'"),
        (nn.Sequential(nn.GELU()), "the constant of GELU is not known"),
        (Twice(), "Twice cannot be traced as a row of layers"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "must have a zero border"),
        (nn.Conv2d(4, 4, 3, padding="same"), "must have a zero border given in numbers"),
        (nn.Linear(6, 6), r"Linear reads vectors, but its input is a map of size \(6, 6\)"),
        (nn.MaxPool2d(2, return_indices=True), "does not return plain averages or maxima"),
        (
            type("FactorizedReduce", (nn.Sequential,), {})(nn.Conv2d(4, 4, 1)),
            "two 1x1 convolutions",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_an_operation_that_cannot_be_measured_says_why(module, reason):
    with pytest.raises(UnknownOperation, match=reason):
        lipschitz_factors(module, SIZE)
    operations = {"strange": module, "plain": nn.Identity()}
    constants = LipschitzConstants(operations, dict.fromkeys(operations, SIZE))
    assert list(constants.unknown) == ["strange"]
    assert constants.unknown["strange"].endswith(".")
    assert constants.update(1).tolist() == [-math.inf, 0.0]


def test_a_batch_norm_without_statistics_cannot_be_folded():
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    assert constant(module) > 0
    folded = LipschitzConstants({"it": module}, {"it": SIZE}, fold_batch_norm=True)
    assert "without running statistics" in folded.unknown["it"]


def test_a_known_constant_replaces_a_measured_one():
    operations = {"strange": nn.GELU(), "plain": nn.Identity()}
    known = {"strange": 1.129, "plain": 0}
    constants = LipschitzConstants(operations, {}, known=known)
    assert not constants.unknown
    assert constants.update(1).tolist() == [pytest.approx(math.log(1.129)), -math.inf]


@pytest.mark.parametrize(
    ("module", "zero"),
    [
        (Zero(4, 2), True),
        (HUB_OPS["none"](4, 1, True), True),
        (nn.Sequential(Zero(4, 1), nn.Dropout()), True),
        (nn.Sequential(HUB_OPS["none"](4, 1, True), DropPath(0.3)), True),
        (nn.Sequential(Zero(4, 1), nn.BatchNorm2d(4)), False),  # returns its biases
        (nn.Sequential(nn.Identity()), False),
        (nn.Identity(), False),
    ],
    ids=str,
)
def test_an_operation_is_zero_if_it_returns_zeros(module, zero):
    assert is_zero(module) is zero


def test_operations_of_all_kinds_keep_their_order():
    operations = {name: OPS[name](4, 1) for name in OPS}
    sizes = dict.fromkeys(operations, SIZE)
    together = LipschitzConstants(operations, sizes).update(1000).exp().tolist()
    assert together == pytest.approx([constant(module) for module in operations.values()], rel=2e-3)


def test_an_update_reads_the_present_weights():
    operation = OPS["sep_conv_3x3"](4, 1)
    constants = LipschitzConstants({"it": operation}, {"it": SIZE})
    before = constants.update(50)
    with torch.no_grad():
        for weight in operation.parameters():
            weight.mul_(2)  # four layers
    assert_close(constants.update(50), before + 4 * math.log(2), atol=1e-3, rtol=0)
    assert all(weight.grad is None for weight in operation.parameters())


def test_a_weak_direction_is_found_when_it_grows():
    # Two channels that never mix: an iteration that ended in one has lost the other.
    layer = nn.Conv2d(2, 2, 3, padding=1, groups=2)
    with torch.no_grad():
        layer.weight[0] *= 100
    constants = LipschitzConstants({"it": layer}, {"it": SIZE})
    constants.update(100)
    with torch.no_grad():
        layer.weight[0] /= 100
        layer.weight[1] *= 100
    for _ in range(10):
        found = constants.update(2)
    assert found.exp().item() == pytest.approx(singular_value(layer, channels=2), rel=1e-2)


def test_a_resumed_measurement_equals_an_uninterrupted_one(tmp_path):
    operations = {name: OPS[name](4, 2) for name in OPS}
    sizes = dict.fromkeys(operations, SIZE)
    whole, stopped = (LipschitzConstants(operations, sizes) for _ in range(2))
    whole.update(3), stopped.update(3)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed = LipschitzConstants(operations, sizes)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(resumed.update(2), whole.update(2))
    assert torch.equal(resumed.update(2), whole.update(2))


def test_two_measurements_of_one_network_agree():
    operations = {name: OPS[name](4, 2) for name in OPS}
    first, second = (LipschitzConstants(operations, dict.fromkeys(OPS, SIZE)) for _ in range(2))
    assert torch.equal(first.update(3), second.update(3))


def test_the_state_of_other_operations_is_refused():
    state = LipschitzConstants({"it": OPS["dil_conv_3x3"](4, 1)}, {"it": SIZE}).state_dict()
    other = LipschitzConstants({"it": OPS["dil_conv_3x3"](8, 1)}, {"it": SIZE})
    with pytest.raises(ValueError, match=r"must have the shapes \[\(1, 8, 6, 6\)\].*got \[\(1, 4"):
        other.load_state_dict(state)


def test_autocast_does_not_change_a_measurement():
    operation = OPS["sep_conv_5x5"](4, 1)
    expected = LipschitzConstants({"it": operation}, {"it": SIZE}).update(5)
    with torch.autocast("cpu", torch.bfloat16):
        found = LipschitzConstants({"it": operation}, {"it": SIZE}).update(5)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exact"}, r"method must be one of \['operator', .*\], got 'exact'"),
        ({"pooling": "none"}, r"pooling must be one of \['paper', 'operator'\], got 'none'"),
        ({"sizes": {}}, r"sizes must have a size for every operation, got none for \['it'\]"),
        ({"known": {"at": 1.0}}, r"known must have keys of operations, got \['at'\]"),
        ({"known": {"it": -1.0}}, r"known\['it'\] must be finite and not negative, got -1.0"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LipschitzConstants(
            **{"operations": {"it": nn.Identity()}, "sizes": {"it": SIZE}, **options}
        )


def test_a_negative_weight_of_a_batch_norm_keeps_its_sign_between_convolutions():
    """By hand: 1 x 1 + (-1) x (-1) = 2; with the signs lost, the map would be zero."""
    first, norm, second = (
        nn.Conv2d(1, 2, 1, bias=False),
        nn.BatchNorm2d(2, eps=0.0),
        nn.Conv2d(2, 1, 1),
    )
    with torch.no_grad():
        first.weight.fill_(1.0)
        norm.weight.copy_(torch.tensor([1.0, -1.0]))
        second.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    chain = nn.Sequential(first, norm, second)
    constants = LipschitzConstants({"chain": chain}, {"chain": (4, 4)}, fold_batch_norm=True)
    assert constants.update(20).exp().item() == pytest.approx(2.0, rel=1e-3)
