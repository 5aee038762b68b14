"""Targets: what is attacked, from a folder or a name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nni_robust.attack import ThreatModel
from nni_robust.check import SettingError
from nni_robust.command.options import TargetOptions, read_network, read_section
from nni_robust.command.target import targets
from nni_robust.data import Synthetic
from nni_robust.model import MODELS
from nni_robust.space import PUBLISHED

pytestmark = pytest.mark.filterwarnings("ignore:.*is found to be not a nn.Module")


def test_a_folder_gives_network_data_and_threat_model_of_the_search(chosen_folder, tmp_path):
    folder = chosen_folder(tmp_path)
    (target,) = targets(TargetOptions(network=tmp_path))
    assert target.label == "0123456789"
    assert target.origin == {"folder": str(folder)}
    assert target.genotype == ["11" * 14]
    assert target.threat_model == ThreatModel(epsilon=0.05)
    assert isinstance(target.data, Synthetic)
    assert not target.network.training


def test_options_replace_what_a_folder_has_on_record(chosen_folder, tmp_path):
    chosen_folder(tmp_path)
    text = "{name: synthetic, num_classes: 2, image_shape: [1, 8, 8], num_examples: 7}"
    data = read_section(text, "--data")
    options = TargetOptions(network=tmp_path, data=data, norm="l2", epsilon="1/2")
    (target,) = targets(options)
    assert target.threat_model == ThreatModel(norm="l2", epsilon=0.5)
    assert target.data.num_examples == 7


def test_every_folder_of_an_experiment_is_a_target(chosen_folder, tmp_path):
    for trial in ("a", "b"):
        chosen_folder(tmp_path / trial)
    found = targets(TargetOptions(network=tmp_path))
    assert [target.label for target in found] == ["a-0123456789", "b-0123456789"]


def test_a_name_gives_a_network_for_the_images_with_its_weights(tmp_path):
    network = MODELS["resnet18"](num_classes=10, in_channels=1, width=0.125)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (target,) = targets(
        TargetOptions(
            network=read_network("{name: resnet18, width: 0.125}"),
            weights=tmp_path / "w.pt",
            data={"name": "digits"},
        )
    )
    assert target.label == "resnet18"
    assert target.threat_model == ThreatModel()
    for name, value in network.state_dict().items():
        assert target.network.state_dict()[name].equal(value)


def test_a_published_network_has_its_genotype(tmp_path):
    section = {"name": "robnet-small", "num_cells": 3, "width": 4}
    options = TargetOptions(network=section, data={"name": "digits"}, weights=tmp_path / "w.pt")
    with pytest.raises(SettingError, match="weights must be a file"):
        targets(options)
    from nni_robust.space import RobNetSpace

    network = RobNetSpace.load_searched_model("robnet-small", num_cells=3, width=4, in_channels=1)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (target,) = targets(options)
    assert target.genotype == list(PUBLISHED["robnet-small"].genotypes)


def test_what_is_typed_is_a_folder_only_if_it_exists(tmp_path):
    assert read_network(str(tmp_path)) == Path(tmp_path)
    assert read_network("resnet18") == {"name": "resnet18"}
    with pytest.raises(SettingError, match="network must be a folder or the name of a network"):
        read_network("")
