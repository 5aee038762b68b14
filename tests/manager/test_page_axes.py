"""Samples become words on axes that NNI's page can draw."""

from __future__ import annotations

from nni.nas.space import SimplifiedModelSpace

from nni_robust.data import Synthetic
from nni_robust.job import Conditions, StagedSearch
from nni_robust.manager.page_axes import PageAxes
from nni_robust.space import STAGE, SUBNETWORKS, RobNetSpace


def page_axes(tmp_path, **arguments):
    space = RobNetSpace(**{"num_cells": 3, "width": 4, **arguments})
    evaluator = StagedSearch(conditions=Conditions(data=Synthetic(), directory=str(tmp_path)))
    return space, PageAxes(SimplifiedModelSpace.from_model(space, evaluator))


def test_an_edge_is_an_axis_of_five_words(tmp_path):
    _, shown = page_axes(tmp_path)
    axes = shown.search_space()
    assert list(axes)[:3] == ["ops", "stage", "edge_0_2"]
    assert len(axes) == 16
    assert axes["edge_0_2"]["_value"] == ["none", "conv", "id", "conv+id", "any"]
    assert axes["stage"]["_value"] == ["supernet", "screen", "candidate", "final"]


def test_a_candidate_is_shown_by_its_edges(tmp_path):
    space, shown = page_axes(tmp_path)
    sample = {**space.sample(["1101" + "00" * 11 + "10"]), STAGE: "candidate"}
    parameters = shown.parameters(sample)
    assert parameters["edge_0_2"] == "conv+id"
    assert parameters["edge_1_2"] == "conv"
    assert parameters["edge_0_3"] == "none"
    assert parameters["edge_4_5"] == "id"
    assert parameters.pop("ops") == 4
    axes = shown.search_space()
    assert all(value in axes[key]["_value"] for key, value in parameters.items())


def test_a_trial_of_many_networks_shows_none_of_them(tmp_path):
    space, shown = page_axes(tmp_path)
    sample = space.sample(["11" * 14])
    other = space.sample(["10" * 14])
    parameters = shown.parameters({**sample, STAGE: "screen", SUBNETWORKS: [sample, other]})
    assert parameters.pop("ops") == 21
    assert parameters.pop("stage") == "screen"
    assert set(parameters.values()) == {"any"}


def test_cells_that_differ_are_shown_by_their_density(tmp_path):
    space, shown = page_axes(tmp_path, cell_free=True)
    genotypes = ["11" * 14, "10" * 14, "00" * 13 + "11"]
    parameters = shown.parameters({**space.sample(genotypes), STAGE: "final"})
    assert parameters == {"stage": "final", "cell_00": 1.0, "cell_01": 0.5, "cell_02": 0.071}
    assert shown.search_space()["cell_02"] == {"_type": "uniform", "_value": [0, 1]}
