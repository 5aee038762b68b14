"""A folder of results as a search leaves it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_robust.data import Digits
from nni_robust.record import Record
from nni_robust.results.chosen import write_chosen
from nni_robust.results.weights import save_weights
from nni_robust.space import RobNetSpace


@pytest.fixture
def chosen_folder():
    """Return a function that writes the files of a chosen, untrained network."""

    def write(directory, **images):
        """Write the files of a chosen network, as a search does."""
        space = {"name": "robnet", "num_cells": 2, "width": 4, "num_classes": 3, "in_channels": 1}
        arguments = {key: value for key, value in space.items() if key != "name"}
        built = RobNetSpace(**arguments)
        sample = built.sample(["11" * 14])
        data = {"name": "synthetic", "num_classes": 3, "image_shape": [1, 8, 8], "num_examples": 60}
        data |= images
        evaluator = {
            "name": "staged",
            "data": data,
            "directory": str(directory),
            "device": "cpu",
            "test_attacks": [{"name": "fgsm", "threat_model": {"norm": "linf", "epsilon": 0.05}}],
        }
        record = Record(
            sample=sample,
            genotype=["11" * 14],
            stage="final",
            metrics={"default": 0.5, "clean": 0.5, "fgsm": 0.5, "num_parameters": 100_000},
            seed=0,
            settings={"space": space, "evaluator": evaluator},
        )
        folder = directory / "final" / "0123456789"
        write_chosen(folder, record)
        save_weights(folder / "weights.pt", built.freeze(sample))
        return folder

    return write


@pytest.fixture(scope="session")
def fitted():
    """Return a function that fits a network to the digits by a few steps."""

    def fit(make):
        torch.manual_seed(0)
        network = make(10)
        x, y = Digits().examples("train", 400)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(60):
            loss = nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return network.eval()

    return fit
