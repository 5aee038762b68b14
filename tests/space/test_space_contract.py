"""What every space promises: samples, genotypes and edges agree, and networks classify images."""

from __future__ import annotations

import pytest
import torch
from numpy.random import RandomState

from nni_robust.space import SPACES, CellNetwork, sampler_of

ARGUMENTS = {
    "robnet": {"num_cells": 3, "width": 4, "num_classes": 5, "in_channels": 1},
    "racl": {"num_cells": 3, "width": 8, "num_classes": 5, "in_channels": 1},
}


@pytest.fixture(params=SPACES)
def space(request):
    torch.manual_seed(0)
    return SPACES[request.param](**ARGUMENTS[request.param])


@pytest.fixture
def sample(space):
    return sampler_of(space, RandomState(0)).draw()


def test_a_drawn_sample_is_valid_and_its_network_classifies_images(space, sample):
    assert space.contains(sample)
    assert space.freeze(sample)(torch.rand(2, 1, 9, 9)).shape == (2, 5)


def test_genotypes_survive_the_conversion_to_a_sample_and_back(space, sample):
    genotypes = space.genotypes(sample)
    assert space.genotypes(space.sample(genotypes)) == genotypes


def test_every_genotype_has_named_edges(space, sample):
    cells = space.edges(sample)
    assert len(cells) == len(space.genotypes(sample))
    for name, edges in cells.items():
        assert {edge.target for edge in edges} == {2, 3, 4, 5}
        labels = {f"{name}/edge_{edge.source}_{edge.target}" for edge in edges}
        assert labels <= set(space.simplify())


def test_the_base_of_the_spaces_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        CellNetwork(None, None)
