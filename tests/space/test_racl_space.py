"""RACLSpace: published sizes, NNI's hub, samples and genotypes, wrong arguments."""

from __future__ import annotations

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from nni.nas.space import model_context
from torch.testing import assert_close

from nni_robust.op import OPS
from nni_robust.space import PUBLISHED, RACLSpace, published_names
from nni_robust.space.cell import PartialChannels
from nni_robust.space.darts_genotype import OPERATIONS, decode_darts, encode_darts
from nni_robust.space.hub import hub_network

RACL = list(PUBLISHED["racl"].genotypes)
HUB = {"num_classes": 10, "in_channels": 3, "width": 4, "auxiliary": False}

# [RACL] Table 1 in millions, and the authors' releases: 36 channels, 20 cells, 10 classes.
SIZES = {
    "racl": 3_571_174,
    "advrush": 4_158_046,
    "darts-v1": 3_169_414,
    "darts-v2": 3_349_342,
    "pc-darts": 3_634_678,
    "p-darts": 3_433_798,
}


@pytest.fixture(scope="module")
def space():
    torch.manual_seed(0)
    return RACLSpace(num_cells=3, width=8, partial_channels=2)


def count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_published_networks_have_their_published_sizes(name):
    assert count(RACLSpace.load_searched_model(name)) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_a_published_network_has_the_weights_of_the_network_in_the_hub(name):
    hub = hub_network(name, **HUB, num_cells=4)
    ours = RACLSpace.load_searched_model(name, width=4, num_cells=4)
    assert count(ours) == count(hub)
    # The modules are in another order.
    assert sorted(p.shape for p in ours.parameters()) == sorted(p.shape for p in hub.parameters())


def test_a_network_returns_the_logits_of_the_hub_with_the_same_weights():
    hub = hub_network("racl", **HUB, num_cells=3).eval()
    ours = RACLSpace.load_searched_model("racl", width=4, num_cells=3).eval()
    torch.manual_seed(0)
    for network in (hub, ours):
        for parameter in network.parameters():  # one value per shape: the order does not matter
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    x = torch.rand(2, 3, 8, 8)
    assert_close(ours(x), hub(x), rtol=1e-4, atol=1e-4)


def test_the_labels_do_not_depend_on_the_number_of_cells(space):
    labels = set(RACLSpace(width=8, num_cells=8, partial_channels=2).simplify())
    assert labels == set(space.simplify())
    assert len(labels) == 2 * (14 + 4)


def test_the_operations_see_one_channel_in_k(space):
    edge = space.cells[0].edges["edge_0_2"]
    assert isinstance(edge.operation, LayerChoice)
    assert edge.operation["sep_conv_3x3"].first[1].in_channels == 4


@pytest.mark.parametrize("stride", [1, 2])
def test_the_other_channels_bypass_the_operation_and_all_are_shuffled(stride):
    x = torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 4, 4)
    doubled = PartialChannels(OPS["max_pool_3x3"](2, stride, True), share=4, stride=stride)
    y = doubled(x * 1.0)
    assert y.shape == (1, 8, 4 // stride, 4 // stride)
    # Transposed by hand from (4, 2) to (2, 4).
    assert y[0, :, 0, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_a_frozen_cell_has_only_the_chosen_edges(space):
    network = space.freeze(space.sample(RACL))
    assert [len(cell.edges) for cell in network.cells] == [8, 8, 8]
    assert [len(cell.edges) for cell in space.cells] == [14, 14, 14]  # the space is unchanged


def test_freezing_keeps_the_weights(space):
    network = space.freeze(space.sample(RACL))
    chosen = network.cells[0].edges["edge_0_2"].operation
    assert_close(
        chosen.state_dict(), space.cells[0].edges["edge_0_2"].operation["sep_conv_3x3"].state_dict()
    )


def test_a_frozen_network_is_rebuilt_from_its_sample(space):
    sample = space.sample(RACL)
    network = space.freeze(sample)
    with model_context(sample):
        again = RACLSpace(num_cells=3, width=8, partial_channels=2)
    again.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert_close(again.eval()(x), network.eval()(x))


def test_every_published_network_of_the_space_has_a_known_size():
    assert set(SIZES) == set(published_names("darts"))


@pytest.mark.parametrize("name", SIZES)
def test_published_genotypes_survive_the_conversion_to_a_sample_and_back(name):
    genotypes = PUBLISHED[name].genotypes
    assert encode_darts(decode_darts(genotypes)) == list(genotypes)


def test_the_imagenet_stem_divides_the_resolution_by_eight():
    network = RACLSpace.load_searched_model("racl", width=4, num_cells=3, stem="imagenet")
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 10)


def test_a_space_without_the_zero_operation_accepts_genotypes():
    space = RACLSpace(num_cells=3, width=8, partial_channels=1, operations=OPERATIONS[1:])
    space.validate(space.sample(RACL))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_cells": 2}, "num_cells must be a whole number of at least 3"),
        ({"width": 12, "partial_channels": 4}, "width must be a multiple of twice partial"),
        ({"operations": ["conv"]}, "operations must be different names from"),
        ({"operations": ["none"]}, "at least one other than 'none'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RACLSpace(**arguments)


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        (RACL[:1], "genotypes must have 2 strings"),
        ([RACL[0], "x"], "genotype must have 4 nodes"),
        ([RACL[0], RACL[1].replace("(0)+", "(1)+")], "2 different inputs"),
        ([RACL[0], RACL[1].replace("dil_conv_3x3(3)", "dil_conv_3x3(5)")], "a state before 5"),
        ([RACL[0], RACL[1].replace("dil_conv_3x3", "conv")], "must consist of steps such as"),
    ],
)
def test_wrong_genotypes_are_refused(genotype, message):
    with pytest.raises(ValueError, match=message):
        decode_darts(genotype)


@pytest.mark.parametrize("name", ["raccoon", "robnet-large"])
def test_an_unknown_published_network_is_refused(name):
    with pytest.raises(ValueError, match="name must be one of"):
        RACLSpace.load_searched_model(name)


def test_published_weights_are_refused():
    with pytest.raises(ValueError, match="weights do not"):
        RACLSpace.load_searched_model("racl", pretrained=True)
