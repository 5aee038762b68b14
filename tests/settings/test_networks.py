"""Networks by name: their shapes, and what is refused; their sizes are held by docs/networks.md."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_robust.data import Synthetic
from nni_robust.model import DenoisingBlock
from nni_robust.settings.networks import NETWORKS, build_network

PICTURES = {"num_examples": 200, "image_shape": (3, 8, 8)}


def build(classes: int = 10, **section: object) -> nn.Module:
    data = Synthetic(num_classes=classes, **PICTURES)  # type: ignore[arg-type]
    return build_network(section, data).eval()


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ["nasnet-a", "amoebanet-a-hub", "robnet-large-denoise"])
def test_a_network_classifies_as_many_classes_as_the_data_have(name):
    network = build(7, name=name, width=4, num_cells=3)
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", ["nasnet-a-hub", "amoebanet-a-hub", "racl-hub"])
def test_a_second_prediction_is_given_in_training(name):
    network = build(7, name=name, width=4, num_cells=3).train()
    logits, auxiliary = network(torch.rand(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 7)


def test_blocks_stand_at_the_last_cell_of_every_stage():
    network = build(name="robnet-large-denoise", width=4)
    denoised = [
        any(isinstance(module, DenoisingBlock) for module in cell.modules())
        for cell in network.cells
    ]
    assert [i for i, block in enumerate(denoised) if block] == [5, 12, 19]


def test_a_block_that_was_not_trained_changes_nothing():
    plain, denoised = (
        build(name="robnet-large", width=4),
        build(name="robnet-large-denoise", width=4),
    )
    names = {
        key.replace(".cell.", "."): key for key in denoised.state_dict() if "denoise" not in key
    }
    state = plain.state_dict()
    denoised.load_state_dict({names[key]: value for key, value in state.items()}, strict=False)
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(denoised(x), plain(x))


@pytest.mark.parametrize(
    ("section", "same"),
    [
        ({"name": "resnet18", "size": 0.125}, {"name": "resnet18", "width": 0.125}),
        ({"name": "resnet18", "size": 0.5, "width": 0.25}, {"name": "resnet18", "width": 0.125}),
        ({"name": "robnet-large", "size": 0.25}, {"name": "robnet-large", "width": 8}),
        ({"name": "robnet-large", "size": 0.01}, {"name": "robnet-large", "width": 2}),
        ({"name": "nasnet-a-hub", "size": 0.1}, {"name": "nasnet-a-hub", "width": 4}),
    ],
    ids=str,
)
def test_a_size_is_a_factor_on_the_width_of_any_network(section, same):
    assert count(build(**section)) == count(build(**same))


def test_the_hub_refuses_grey_images_in_one_line():
    data = Synthetic(num_examples=40, image_shape=(1, 8, 8))
    with pytest.raises(ValueError, match=r"network\.name must not be .*'nasnet-a', .* 1 channels"):
        build_network({"name": "nasnet-a"}, data)


@pytest.mark.parametrize("size", [0, -1, "half", True])
def test_a_size_that_is_no_positive_number_is_refused(size):
    with pytest.raises(ValueError, match=r"network\.size must be a positive number, got"):
        build(name="resnet18", size=size)


def test_there_is_no_robnet_medium():
    # Its genotype was never published.
    assert "robnet-medium" not in NETWORKS
