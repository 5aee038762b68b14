"""The path-sampling supernet runs exactly the subnetwork that was drawn."""

from __future__ import annotations

import pytest
import torch
from nni.mutable import label_scope
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from numpy.random import RandomState
from torch import nn
from torch.testing import assert_close

from nni_robust.oneshot import (
    PathSamplingMultiOpEdge,
    PathSamplingOneShot,
    activate,
    as_supernet,
)
from nni_robust.op import SepConv
from nni_robust.space import MultiOpEdge, RobNetSpace, sampler_of


def small(**arguments: object) -> RobNetSpace:
    torch.manual_seed(0)
    return RobNetSpace(**{"num_cells": 3, "width": 4, "in_channels": 1, **arguments})


class UserSpace(ModelSpace):
    """A user's space: one of NNI's choices and one of our edges."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = LayerChoice([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)], label="stem")
        with label_scope("body"):
            self.edge = MultiOpEdge(
                {"conv": SepConv(4), "identity": nn.Identity()}, channels=4, label="edge"
            )
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.edge(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("cell_free", [False, True])
def test_the_supernet_computes_what_the_frozen_subnetwork_computes(cell_free):
    supernet = as_supernet(small(cell_free=cell_free)).eval()
    sampler = sampler_of(supernet, RandomState(0))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        sample = sampler.draw()
        activate(supernet, sample)
        assert_close(supernet(x), supernet.freeze(sample)(x), rtol=0, atol=0)


def test_operations_that_are_not_drawn_are_not_run():
    supernet = as_supernet(small())
    run = set()
    for name, module in supernet.named_modules():
        if isinstance(module, SepConv):
            module.register_forward_hook(lambda m, i, o, name=name: run.add(name))
    sample = sampler_of(supernet, RandomState(1)).draw()
    activate(supernet, sample)
    supernet(torch.rand(2, 1, 8, 8))
    drawn = {label.split("/")[1] for label, ops in sample.items() if "conv" in ops}
    assert {name.split(".")[3] for name in run} == drawn


def test_weights_that_are_not_drawn_get_no_gradient():
    supernet = as_supernet(small())
    conv_only = {
        label: ["conv"] if "0_2" in label else [] for label in supernet.sample(["11" * 14])
    }
    activate(supernet, conv_only)
    supernet(torch.rand(2, 1, 8, 8)).sum().backward()
    with_gradient = {
        name.split(".")[3]
        for name, parameter in supernet.named_parameters()
        if "edges" in name and parameter.grad is not None
    }
    assert with_gradient == {"edge_0_2"}


def test_the_supernet_has_the_state_dict_of_its_space():
    assert set(as_supernet(small()).state_dict()) == set(small().state_dict())


def test_the_supernet_keeps_constraints_and_labels():
    space = small(convolutions=(0, 7))
    labels = set(space.simplify())
    supernet = as_supernet(space)
    assert set(supernet.simplify()) == labels
    assert not supernet.contains(supernet.sample(["11" * 14]))


def test_a_users_space_of_both_kinds_of_choices_becomes_a_supernet():
    supernet = as_supernet(UserSpace()).eval()
    sample = {"stem": 1, "body/edge": ["identity"]}
    activate(supernet, sample)
    assert isinstance(supernet.edge, PathSamplingMultiOpEdge)
    x = torch.rand(2, 1, 4, 4)
    assert_close(supernet(x), supernet.freeze(sample)(x))


def test_a_seed_that_numpy_does_not_accept_is_refused():
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 to 2\^32 - 1"):
        PathSamplingOneShot(seed=2**40)
