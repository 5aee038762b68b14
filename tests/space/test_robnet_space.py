"""RobNetSpace: published sizes, samples and genotypes, constraints, serialisation by NNI."""

from __future__ import annotations

from collections import Counter

import nni
import numpy as np
import pytest
import torch
from nni.mutable.exception import SampleValidationError
from nni.nas.space import SimplifiedModelSpace, model_context
from numpy.random import RandomState
from scipy.stats import chisquare
from torch.testing import assert_close

from nni_robust.space import PUBLISHED, Bounds, RobNetSpace, sampler_of
from nni_robust.space import robnet_genotype as gt
from nni_robust.space.sampling import genotype_sampler

LARGE = PUBLISHED["robnet-large"].genotypes[0]

# Name, classes, parameters. The sizes printed in the paper are those with 100 classes.
PUBLISHED_SIZES = [
    ("robnet-small", 10, 4_359_574),
    ("robnet-small", 100, 4_411_504),
    ("robnet-large", 10, 6_842_710),
    ("robnet-large", 100, 6_894_640),
    ("robnet-large-v2", 10, 33_326_666),
    ("robnet-large-v2", 100, 33_418_916),
    ("robnet-free", 10, 5_439_790),
    ("robnet-free", 100, 5_491_720),
]


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def small() -> RobNetSpace:
    return RobNetSpace(num_cells=3, width=4, num_classes=5, in_channels=1)


@pytest.mark.parametrize(("name", "num_classes", "size"), PUBLISHED_SIZES)
def test_published_networks_have_their_published_sizes(name, num_classes, size):
    assert count(RobNetSpace.load_searched_model(name, num_classes=num_classes)) == size


def test_robnet_large_with_the_imagenet_stem_has_its_published_size():
    network = RobNetSpace.load_searched_model(
        "robnet-large", num_classes=1000, width=48, stem="imagenet"
    )
    assert count(network) == 12_756_448


@pytest.mark.parametrize(("bits", "size"), [("00", 1_363_222), ("11", 7_304_086)])
def test_the_extremes_of_the_space_have_their_published_sizes(bits, size):
    layout = RobNetSpace(num_cells=20, width=36).layout
    assert layout.count_parameters([bits * 14]) == size


@pytest.mark.parametrize(
    ("name", "density", "direct", "share"),
    [
        ("robnet-small", 0.571, 0.75, 0.429),
        ("robnet-large", 0.786, 0.75, 0.231),
        ("robnet-free", 0.641, 0.65, 0.292),
    ],
)
def test_the_measures_of_published_networks_are_those_of_the_paper(name, density, direct, share):
    genotypes = PUBLISHED[name].genotypes
    assert gt.density(genotypes) == pytest.approx(density, abs=5e-4)
    assert gt.direct_edge_share(genotypes) == pytest.approx(direct, abs=5e-4)
    assert gt.direct_convolution_share(genotypes) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("cell_free", [False, True])
@pytest.mark.parametrize("num_cells", [1, 2, 3, 5, 8])
def test_the_layout_counts_the_parameters_of_the_network(num_cells, cell_free, stem):
    space = RobNetSpace(num_cells=num_cells, width=4, cell_free=cell_free, stem=stem)
    sample = sampler_of(space, RandomState(num_cells)).draw()
    assert space.layout.count_parameters(space.genotypes(sample)) == count(space.freeze(sample))


@pytest.mark.parametrize("cell_free", [False, True])
def test_a_sample_survives_the_conversion_to_genotypes_and_back(cell_free):
    space = RobNetSpace(num_cells=4, width=4, cell_free=cell_free)
    sampler = sampler_of(space, RandomState(0))
    for _ in range(20):
        sample = sampler.draw()
        genotypes = space.genotypes(sample)
        assert space.sample(genotypes) == sample
        assert space.genotypes(space.sample(genotypes)) == genotypes


def test_the_categorical_form_of_a_sample_gives_the_same_network(small):
    sample = small.sample([LARGE])
    categorical = {
        f"{label}/{index}": operation in chosen
        for label, chosen in sample.items()
        for index, operation in enumerate(("conv", "identity"))
    }
    assert small.contains(categorical)
    assert small.genotypes(categorical) == [LARGE]
    assert count(small.freeze(categorical)) == count(small.freeze(sample))


def test_freezing_copies_the_weights(small):
    sample = small.sample([LARGE])
    network = small.freeze(sample)
    weights = dict(small.state_dict())
    for name, value in network.state_dict().items():
        assert_close(value, weights[name])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    for name, value in small.state_dict().items():
        assert_close(value, weights[name])


def test_a_network_that_is_built_frozen_loads_the_weights_of_a_frozen_space(small):
    sample = small.sample([LARGE])
    frozen = small.freeze(sample).eval()
    with model_context(sample):
        built = RobNetSpace(num_cells=3, width=4, num_classes=5, in_channels=1).eval()
    built.load_state_dict(frozen.state_dict())
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert_close(built(x), frozen(x))


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (32, 32)])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_networks_map_images_of_any_size_to_logits(size, stem):
    space = RobNetSpace(num_cells=3, width=4, num_classes=5, stem=stem)
    network = space.freeze(sampler_of(space, RandomState(1)).draw())
    assert network(torch.rand(2, 3, *size)).shape == (2, 5)


def test_a_node_without_input_is_zero(small):
    only_last = "00" * 13 + "10"  # the last node copies the third, which has no input itself
    cell = small.freeze(small.sample([only_last])).cells[0]
    output = cell(torch.rand(1, 12, 8, 8), torch.rand(1, 12, 8, 8))
    assert output.shape == (1, 16, 8, 8)
    assert not output.any()


def test_there_is_one_mutable_per_distinct_edge():
    shared = RobNetSpace(num_cells=4, width=4)
    free = RobNetSpace(num_cells=4, width=4, cell_free=True)
    assert sum("edge" in label for label in shared.simplify()) == 14
    assert sum("edge" in label for label in free.simplify()) == 4 * 14


@pytest.mark.parametrize(
    ("bounds", "holds"),
    [
        ({"density": (0.5, 0.7)}, lambda g: 0.5 <= gt.density([g]) <= 0.7),
        ({"direct": (0.75, 1.0)}, lambda g: gt.direct_edge_share([g]) >= 0.75),
        ({"direct_share": (0.4, 1.0)}, lambda g: gt.direct_convolution_share([g]) >= 0.4),
        ({"convolutions": (11, 14)}, lambda g: gt.num_operations(g, "conv") >= 11),
        ({"connected": True}, gt.is_connected),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_draws_respect_constraints(bounds, holds):
    space = RobNetSpace(num_cells=3, width=4, **bounds)
    sampler = sampler_of(space, RandomState(0))
    assert all(holds(space.genotypes(sampler.draw())[0]) for _ in range(20))
    simplified = SimplifiedModelSpace.from_model(space)
    accepted = 0
    while accepted < 3:  # as NNI's strategies do
        try:
            model = simplified.random()
        except SampleValidationError:
            continue
        assert holds(space.genotypes(model.sample)[0])
        accepted += 1


def test_draws_respect_a_bound_on_parameters():
    space = RobNetSpace(num_cells=3, width=8, parameters=(10_000, 30_000))
    sample = sampler_of(space, RandomState(0)).draw()
    assert 10_000 <= count(space.freeze(sample)) <= 30_000


def test_a_sample_outside_the_constraints_is_refused_with_the_reason():
    space = RobNetSpace(num_cells=3, width=4, convolutions=(0, 7))
    assert not space.contains(space.sample([LARGE]))
    with pytest.raises(ValueError, match="convolutions is 13, allowed is 0 to 7"):
        space.freeze(space.sample([LARGE]))


def test_a_cell_without_operations_is_refused(small):
    with pytest.raises(ValueError, match="a cell without any operation"):
        small.freeze(small.sample(["00" * 14]))


def test_contradicting_constraints_raise_an_error():
    with pytest.raises(ValueError, match=r"constraints must leave architectures.*Widen"):
        RobNetSpace(num_cells=3, width=4, convolutions=(11, 14), density=(0.0, 0.2))


def test_constraints_that_no_draw_satisfies_raise_an_error():
    space = RobNetSpace(num_cells=3, width=4)
    bounds = Bounds(parameters=(0, 10))
    with pytest.raises(ValueError, match=r"10000 draws gave none.*parameters is.*Widen"):
        genotype_sampler(bounds, space.layout, RandomState(0)).draw()


def test_tight_bounds_on_a_cell_free_space_need_no_rejection():
    space = RobNetSpace(num_cells=20, width=4, cell_free=True, convolutions=(11, 14))
    for seed in range(5):  # rejection would need 10^20 draws
        sample = sampler_of(space, RandomState(seed)).draw()
        assert 11 <= gt.mean_convolutions(space.genotypes(sample)) <= 14


def test_draws_are_uniform_within_the_bounds():
    space = RobNetSpace(num_cells=3, width=4, convolutions=(13, 14), density=(0.9, 1.0))
    sampler = sampler_of(space, RandomState(0))
    draws = [space.genotypes(sampler.draw())[0] for _ in range(3000)]
    # At least 26 of 28 operations, 13 or 14 of them convolutions: the number of architectures for
    # each pair (convolutions, identities).
    ways = {(13, 13): 14 * 14, (13, 14): 14, (14, 12): 91, (14, 13): 14, (14, 14): 1}
    seen = Counter(
        (gt.num_operations(draw, "conv"), gt.num_operations(draw, "identity")) for draw in draws
    )
    expected = [3000 * count / sum(ways.values()) for count in ways.values()]
    assert chisquare([seen[pair] for pair in ways], expected).pvalue > 1e-4
    where = Counter(draw[1::2].index("0") for draw in draws if draw[1::2].count("0") == 1)
    assert chisquare([where[position] for position in range(14)]).pvalue > 1e-4


def test_without_bounds_edges_are_independent_fair_coins(small):
    sampler = sampler_of(small, RandomState(0))
    bits = np.array([[int(b) for b in small.genotypes(sampler.draw())[0]] for _ in range(4000)])
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / 4000**0.5
    correlation = np.corrcoef(bits.T) - np.eye(28)
    assert np.abs(correlation).max() < 5 / 4000**0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_cells": 0}, "num_cells must be a whole number of at least 1, got 0"),
        ({"width": 5}, "width must be even"),
        ({"stem": "mnist"}, r"stem must be one of \['cifar', 'imagenet'\], got 'mnist'"),
        ({"density": (0.7, 0.5)}, "density must be two numbers"),
        ({"convolutions": (15, 20)}, r"convolutions must overlap with \[0, 14\]"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RobNetSpace(**{"num_cells": 3, "width": 4, **arguments})


def test_a_seed_gives_a_published_network_the_initial_weights_of_recorded_trainings():
    arguments = {"num_cells": 3, "width": 4}
    torch.manual_seed(0)
    network = RobNetSpace.load_searched_model("robnet-large", **arguments)
    torch.manual_seed(0)
    sample = RobNetSpace(**arguments).sample([LARGE])  # the space draws its weights first
    with model_context(sample):
        expected = RobNetSpace(**arguments)
    assert_close(network.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_an_unknown_published_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name must be one of \['robnet-free'.*got 'robnet'"):
        RobNetSpace.load_searched_model("robnet")


@pytest.mark.parametrize("genotype", ["11" * 13, "12" * 14])
def test_a_wrong_genotype_is_refused(genotype):
    with pytest.raises(ValueError, match="genotype must be 28 characters of 0 and 1"):
        gt.decode_cell(genotype)


def test_nni_serialises_the_space_by_name_and_arguments(small):
    text = nni.dump(small)
    assert "nni_robust.space.robnet.RobNetSpace" in text
    assert set(nni.load(text).state_dict()) == set(small.state_dict())


def test_nni_serialises_the_simplified_space_with_its_constraints():
    space = RobNetSpace(num_cells=3, width=4, convolutions=(0, 7))
    loaded = nni.load(nni.dump(SimplifiedModelSpace.from_model(space)))
    assert loaded.contains(space.sample(["01" * 7 + "10" * 7]))
    assert not loaded.contains(space.sample([LARGE]))
