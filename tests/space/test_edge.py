"""Edges of cells: what is refused, and which edges samples and published networks have."""

from __future__ import annotations

import pytest
from nni.nas.hub.pytorch import NASNet
from numpy.random import RandomState
from torch import nn

from nni_robust.check import SettingError
from nni_robust.space import PUBLISHED, Edge, RACLSpace, RobNetSpace, published_names, sampler_of
from nni_robust.space.hub import cell_edges
from nni_robust.space.racl import RETRAINING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 3, ("conv",)), "source must be a state before target.*got source 4 and target 3."),
        ((3, 3, ("conv",)), "source must be a state before target.*got source 3 and target 3."),
        ((-1, 3, ("conv",)), "source must be a state.*from 0, got source -1 and target 3."),
        ((0, 1, ("conv",)), "target must be a node, 2 or more, got 1"),
        ((0, 2, ("conv",), -0.5), "weight must be a finite number of at least 0, .* got -0.5."),
        ((0, 2, ("conv",), float("nan")), "weight must be .*, got nan."),
    ],
)
def test_an_impossible_edge_is_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        Edge(*arguments)


def test_operations_given_as_one_string_are_refused():
    with pytest.raises(TypeError, match=r"operations must be a tuple .* write \('conv',\)"):
        Edge(0, 2, "conv")


@pytest.mark.parametrize("cell_free", [False, True])
def test_a_robnet_sample_has_fourteen_edges_per_distinct_cell(cell_free):
    space = RobNetSpace(num_cells=3, width=4, cell_free=cell_free)
    sample = sampler_of(space, RandomState(0)).draw()
    cells = space.edges(sample)
    assert list(cells) == (["cell_00", "cell_01", "cell_02"] if cell_free else ["cell"])
    for scope, edges in cells.items():
        found = {f"{scope}/edge_{e.source}_{e.target}": list(e.operations) for e in edges}
        assert found == {label: sample[label] for label in found}
        assert len(found) == 14


@pytest.mark.parametrize("name", published_names("darts"))
def test_a_published_cell_and_its_sample_have_the_same_edges(name):
    space = RACLSpace(num_cells=3, width=8)
    published = PUBLISHED[name]
    assert space.edges(space.sample(published.genotypes)) == published.edges()


def test_the_edges_of_a_hub_sample_are_its_operations_and_inputs():
    published = PUBLISHED["nasnet-a"].edges()
    assert {scope: len(edges) for scope, edges in published.items()} == {"normal": 10, "reduce": 10}
    hub = {
        f"{scope}/{key}_{edge.target}_{i % 2}": value
        for scope, edges in published.items()
        for i, edge in enumerate(edges)
        for key, value in (("op", edge.label), ("input", [edge.source]))
    }
    network = NASNet.frozen_factory(hub)(width=4, num_cells=3, dataset="cifar")
    assert cell_edges(network, hub) == published


def test_a_space_without_known_cells_has_no_edges():
    assert cell_edges(nn.Identity(), {}) == {}


def test_a_published_cell_is_trained_at_its_published_size():
    published = PUBLISHED["racl"]
    assert {
        "num_cells": published.num_cells,
        "width": published.width,
    }.items() <= RETRAINING.items()
