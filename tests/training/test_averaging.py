"""Weight averages against their closed form and against the weights of the network."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.training import Recipe
from nni_robust.training.averaging import MovingAverage

pytestmark = pytest.mark.filterwarnings("ignore")  # advice from Lightning

DATA = {"num_classes": 3, "image_shape": (1, 4, 4), "num_examples": 40, "batch_size": 12}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


class Trace(pl.Callback):
    """Records the weights after every step and the state after every epoch."""

    def __init__(self) -> None:
        self.steps: list[list[torch.Tensor]] = []
        self.epochs: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *args: Any) -> None:
        self.steps.append([w.detach().clone() for w in pl_module.model.parameters()])

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.epochs.append({k: v.clone() for k, v in pl_module.model.state_dict().items()})


def train(recipe: Recipe, epochs: int = 2, **options: Any) -> tuple[nn.Module, Trace]:
    network, trace = small(), Trace()
    AdversarialClassification(
        data=Synthetic(**DATA),
        train_attack=None,
        recipe=recipe,
        max_epochs=epochs,
        callbacks=[trace],
        **QUIET,
        **options,
    ).evaluate(network)
    return network, trace


def test_the_moving_average_has_its_closed_form():
    decay, values = 0.7, torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    average = MovingAverage(decay)
    for value in values:
        average.update([value])
    shares = torch.tensor([decay ** (len(values) - 1 - k) for k in range(len(values))])
    assert_close(average.values[0], (shares / shares.sum()) @ values)


def test_the_average_of_a_constant_is_that_constant():
    average = MovingAverage(0.999)
    for _ in range(5):
        average.update([torch.full((2,), 3.0)])
    assert_close(average.values[0], torch.full((2,), 3.0))


@pytest.mark.parametrize("validation", [0, 1.0])
def test_the_network_ends_with_the_average_of_its_steps(validation):
    recipe = Recipe(learning_rate=0.1, ema=0.6)
    network, trace = train(recipe, limit_val_batches=validation)
    shares = torch.tensor([0.6**k for k in range(len(trace.steps))]).flip(0)
    shares = shares / shares.sum()
    for index, weight in enumerate(network.parameters()):
        steps = torch.stack([step[index] for step in trace.steps], -1)
        assert_close(weight.detach(), steps @ shares)


def test_averaging_does_not_disturb_the_training():
    _, plain = train(Recipe(learning_rate=0.1))
    _, averaged = train(Recipe(learning_rate=0.1, ema=0.9))
    for ours, theirs in zip(averaged.steps, plain.steps, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batch_norm_statistics_belong_to_the_averaged_network():
    network, trace = train(Recipe(learning_rate=0.1, ema=0.9))
    other = small()
    other.load_state_dict(trace.epochs[-1])
    loader = Synthetic(**DATA).train_dataloader()
    loader.set_epoch(2)  # the epoch that would have come next
    features = [other[0](x).detach() for x, _ in loader]
    means = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    variances = torch.stack([f.var((0, 2, 3)) for f in features]).mean(0)
    assert_close(network[1].running_mean, means)
    assert_close(network[1].running_var, variances)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"ema must lie in \[0, 1\), got 1.0"):
        Recipe(ema=1.0)
