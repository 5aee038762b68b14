"""The guard of single-step training against planted collapses."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from nni_robust.attack import PGD, Attack, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.evaluator.report_to_nni import logged_metrics
from nni_robust.training import Recipe
from nni_robust.training.objective import Fast
from nni_robust.training.overfitting_guard import OverfittingGuard

pytestmark = pytest.mark.filterwarnings("ignore")  # advice from Lightning

BALL = ThreatModel(epsilon=0.05)


class Classifier(nn.Sequential):
    """A linear network. If it is `hollow`, it withstands only the attack of its training."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 3))
        self.register_buffer("hollow", torch.tensor(False))


class Probe(Attack):
    """Fools a hollow network and no other."""

    def _perturb(self, network, x, y, generator):
        return torch.zeros_like(x) if network.hollow else x


class Change(pl.Callback):
    """Changes the network after the last step of an epoch."""

    def __init__(self, epoch: int, change: Callable[[Classifier], object]) -> None:
        self.epoch = epoch
        self.change = change
        self.before: dict[str, torch.Tensor] = {}
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.is_last_batch and trainer.current_epoch == self.epoch:
            with torch.no_grad():
                self.change(pl_module.model)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seen.append(logged_metrics(trainer))
        if trainer.current_epoch == self.epoch - 1:
            state = pl_module.model.state_dict()
            self.before = {name: value.clone() for name, value in state.items()}


def hollow_out(network: Classifier) -> None:
    """Let the network withstand only the attack of its training."""
    network.hollow.fill_(True)


def forget(network: Classifier) -> None:
    """Let the network withstand no attack."""
    for parameter in network[1].parameters():
        parameter.neg_()


def train(change: Change, guard: float = 0.2) -> tuple[nn.Module, pl.Trainer]:
    torch.manual_seed(0)
    network = Classifier()
    evaluator = AdversarialClassification(
        data=Synthetic(num_classes=3, image_shape=(1, 8, 8), num_examples=100, batch_size=30),
        train_attack=Probe(threat_model=BALL),
        validation_attack=PGD(threat_model=BALL),
        recipe=Recipe(objective=Fast(guard=guard)),
        max_epochs=5,
        callbacks=[change],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    evaluator.evaluate(network)
    return network, evaluator.trainer


def test_a_collapse_ends_the_training_and_restores_the_epoch_before(caplog):
    change = Change(3, hollow_out)
    with caplog.at_level(logging.WARNING):
        network, trainer = train(change)
    assert trainer.current_epoch == 4  # of five
    for name, value in network.state_dict().items():
        assert torch.equal(value, change.before[name])
    assert "Catastrophic overfitting in epoch 3: accuracy is " in caplog.text
    # The reported metrics are those of the restored weights.
    assert change.seen[3] == change.seen[2]
    assert change.seen[2]["clean"] > 0.8


def test_a_network_that_has_only_become_worse_trains_on():
    change = Change(3, forget)
    _, trainer = train(change)
    assert trainer.current_epoch == 5
    assert change.seen[3]["clean"] < 0.5 < change.seen[2]["clean"]


def test_a_training_without_a_collapse_runs_to_its_end():
    _, trainer = train(Change(99, hollow_out))
    assert trainer.current_epoch == 5


def test_a_guard_of_one_never_ends_the_training():
    _, trainer = train(Change(3, hollow_out), guard=1.0)
    assert trainer.current_epoch == 5


def test_a_training_that_the_guard_ended_stays_ended_when_it_is_resumed():
    guard, resumed = (OverfittingGuard(PGD(), PGD(steps=7), rise=0.2) for _ in range(2))
    guard.collapsed, guard.metrics = 2, {"val_robust": 0.5}
    resumed.load_state_dict(guard.state_dict())
    trainer = pl.Trainer(
        callbacks=[resumed], accelerator="cpu", logger=False, enable_checkpointing=False
    )
    resumed.on_train_start(trainer, pl.LightningModule())
    assert trainer.should_stop
    assert logged_metrics(trainer) == {"default": 0.5}
