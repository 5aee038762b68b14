"""Perturbed weights: their size, their direction and their exact restoration."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.training import Recipe
from nni_robust.training.weight_perturbation import WeightPerturbation

DATA = {"num_classes": 3, "image_shape": (1, 4, 4), "num_examples": 30, "batch_size": 9}
X = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(1))
Y = torch.arange(9) % 3


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def test_the_perturbation_is_a_fraction_of_each_layers_norm_and_raises_the_loss():
    network = small()
    found = [parameter.detach().clone() for parameter in network.parameters()]

    def loss() -> torch.Tensor:
        return functional.cross_entropy(network(X), Y)

    before = loss().item()
    WeightPerturbation(0.01).apply(network, loss)
    moved = [(p.detach() - w) for p, w in zip(network.parameters(), found, strict=True)]
    for weight, change in zip(found, moved, strict=True):
        expected = 0.01 * weight.norm() if weight.dim() > 1 else torch.tensor(0.0)
        assert_close(change.norm(), expected, rtol=1e-4, atol=1e-6)
    assert loss().item() > before


def test_the_weights_are_perturbed_under_autocast_too():
    network = small().eval()

    def loss() -> torch.Tensor:
        return functional.cross_entropy(network(X), Y)

    perturbation = WeightPerturbation(0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = loss().item()
        perturbation.apply(network, loss)
        assert loss().item() > before
        perturbation.restore()
        assert loss().item() == before


def test_the_weights_are_restored_bit_by_bit():
    network = small()
    found = {name: value.clone() for name, value in network.state_dict().items()}
    perturbation = WeightPerturbation(0.3)
    perturbation.apply(network, lambda: functional.cross_entropy(network(X), Y))
    perturbation.restore()
    for name, value in network.state_dict().items():  # running statistics as well
        assert torch.equal(value, found[name]), name


def test_frozen_weights_are_not_perturbed():
    network = small().requires_grad_(False)
    WeightPerturbation(0.3).apply(network, lambda: functional.cross_entropy(network(X), Y))
    for a, b in zip(network.parameters(), small().parameters(), strict=True):
        assert torch.equal(a, b)


class FirstStep(pl.Callback):
    def __init__(self) -> None:
        self.after: list[torch.Tensor] = []
        self.batch: Any = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batch = batch
        self.after = [w.detach().clone() for w in pl_module.model.parameters()]


@pytest.mark.filterwarnings("ignore")
def test_a_step_starts_at_the_weights_with_the_gradient_of_the_perturbed_ones():
    network, first = small(), FirstStep()
    recipe = Recipe(learning_rate=0.5, weight_decay=0.0, momentum=0.0, awp=0.05)
    AdversarialClassification(
        data=Synthetic(**DATA),
        train_attack=None,
        recipe=recipe,
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        callbacks=[first],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).evaluate(network)
    x, y = first.batch

    other = small()
    start = [w.detach().clone() for w in other.parameters()]
    gradients = torch.autograd.grad(functional.cross_entropy(other(x), y), list(other.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(other.parameters(), gradients, strict=True):
            if weight.dim() > 1:
                weight += 0.05 * weight.norm() * gradient / gradient.norm()
    gradients = torch.autograd.grad(functional.cross_entropy(other(x), y), list(other.parameters()))
    for w, g, after in zip(start, gradients, first.after, strict=True):
        assert_close(after, w - 0.5 * g)


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_perturbed_during_the_warm_up():
    def train(epochs: int, **options: Any) -> nn.Module:
        def stop(trainer, module) -> None:
            trainer.should_stop = trainer.current_epoch == epochs - 1

        network = small()
        AdversarialClassification(
            data=Synthetic(**DATA),
            train_attack=None,
            recipe=Recipe(**options),
            max_epochs=4,
            limit_val_batches=0,
            callbacks=[pl.callbacks.LambdaCallback(on_train_epoch_end=stop)],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).evaluate(network)
        return network

    for epochs, same in ((2, True), (3, False)):
        plain, warmed = train(epochs), train(epochs, awp=0.05, awp_warmup=0.5)
        pairs = zip(plain.parameters(), warmed.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is same
