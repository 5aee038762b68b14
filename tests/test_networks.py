"""docs/networks.md: every named network is built and its parameters are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from nni_robust.data import Synthetic
from nni_robust.settings.networks import NETWORKS, build_network

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_every_network_is_in_the_table():
    assert {row[0] for row in rows()} == set(NETWORKS)


@pytest.mark.parametrize("row", rows(), ids=lambda row: "-".join(row[:3]))
def test_a_network_has_the_number_of_parameters_in_the_table(row):
    name, classes, arguments, parameters, printed, _ = row
    data = Synthetic(num_classes=int(classes), num_examples=4000, image_shape=(3, 8, 8))
    with torch.device("meta"):
        network = build_network({"name": name, **yaml.safe_load(f"{{{arguments}}}")}, data)
    count = sum(p.numel() for p in network.parameters())
    assert f"{count:,}" == parameters
    if printed:
        assert abs(count / 1e6 - float(printed)) < 10.0 ** -len(printed.partition(".")[2])
