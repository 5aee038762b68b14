"""Free adversarial training: replays and the carried perturbation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import PGD, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.training import Recipe
from nni_robust.training.free_training import CarriedPerturbation, Replayed
from nni_robust.training.objective import Free

DATA = {"num_classes": 3, "image_shape": (1, 4, 4), "num_examples": 40, "batch_size": 12}


def test_every_batch_is_replayed():
    loader = Synthetic(**DATA).train_dataloader()
    batches = [x for x, _ in Synthetic(**DATA).train_dataloader()]
    replayed = Replayed(loader, 3)
    seen = [x for x, _ in replayed]
    assert len(replayed) == len(seen) == 3 * len(batches) == 9
    assert all(torch.equal(seen[i], batches[i // 3]) for i in range(9))


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5)])
def test_a_constant_gradient_moves_the_perturbation_to_the_border_and_no_further(norm, epsilon):
    gradient = torch.tensor([[[[1.0, -2.0], [3.0, -1.0]]]])
    carried = CarriedPerturbation(ThreatModel(norm=norm, epsilon=epsilon), step_size=0.4 * epsilon)
    direction = gradient.sign() if norm == "linf" else gradient / gradient.norm()
    for steps in range(5):
        x_adv = carried.images(torch.full((1, 1, 2, 2), 0.5))
        length = min(0.4 * steps, 1.0) * epsilon
        assert_close(x_adv.detach(), 0.5 + length * direction)
        (x_adv * gradient).sum().backward()
        carried.move()


def test_a_smaller_batch_leaves_the_other_perturbations_alone():
    carried = CarriedPerturbation(ThreatModel(epsilon=0.1), step_size=0.02)
    for count in (3, 2):
        carried.images(torch.full((count, 1, 1, 1), 0.5)).sum().backward()
        carried.move()
    assert_close(carried.delta.flatten(), torch.tensor([0.04, 0.04, 0.02]))


def test_images_stay_in_range_while_the_perturbation_stays_in_the_ball():
    carried = CarriedPerturbation(ThreatModel(epsilon=0.3), step_size=0.3)
    for _ in range(2):
        x_adv = carried.images(torch.full((1, 1, 1, 1), 0.9))
        x_adv.sum().backward()
        carried.move()
    assert x_adv.item() == 1.0
    assert carried.delta.item() == pytest.approx(0.3)


class Recorder(nn.Module):
    """A linear network that records its training images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(16, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        return self.linear(x.flatten(1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", ["data", "loaders"])
def test_training_replays_batches_under_a_growing_perturbation(given):
    data = Synthetic(**DATA)
    source: dict[str, Any] = {"data": data}
    if given == "loaders":
        source = {"train_dataloaders": data.train_dataloader()}
    network = Recorder()
    AdversarialClassification(
        **source,
        train_attack=PGD(threat_model=ThreatModel(epsilon=0.05)),
        recipe=Recipe(objective=Free(replays=3, step_share=0.5)),
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).evaluate(network)
    batches = [x for x, _ in Synthetic(**DATA).train_dataloader()]
    assert [len(x) for x in network.seen] == [12] * 9
    assert torch.equal(network.seen[0], batches[0])  # the perturbation begins at 0
    moved = [(network.seen[i] - batches[i // 3]).abs().max().item() for i in range(9)]
    assert moved[1] == pytest.approx(0.025, abs=1e-6)
    assert moved[3] > 0  # carried over to the next batch
    assert max(moved) <= 0.05 + 1e-6
