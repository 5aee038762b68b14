"""The guard of single-step training, against collapses that are planted."""

from __future__ import annotations

import logging

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from nni_robust.attack import PGD, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification, Recipe
from nni_robust.evaluator.guard import OverfittingGuard
from nni_robust.evaluator.objective import Fast

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

PROBE = PGD(threat_model=ThreatModel(epsilon=0.05), steps=3, step_size=0.03)


class Collapse(pl.Callback):
    """Turns the classifier's answers round at the end of an epoch's last step."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.before: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.is_last_batch and trainer.current_epoch == self.epoch:
            with torch.no_grad():
                pl_module.model[-1].weight.neg_()
                pl_module.model[-1].bias.neg_()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch - 1:
            state = pl_module.model.state_dict()
            self.before = {name: value.clone() for name, value in state.items()}


def train(collapse: Collapse, guard: float = 0.2) -> tuple[nn.Module, pl.Trainer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    evaluator = AdversarialClassification(
        data=Synthetic(num_classes=3, image_shape=(1, 8, 8), num_examples=100, batch_size=30),
        train_attack=PROBE,
        recipe=Recipe(objective=Fast(guard=guard)),
        max_epochs=5,
        limit_val_batches=0,
        callbacks=[collapse],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    evaluator.evaluate(network)
    return network, evaluator.trainer


def test_a_collapse_ends_the_training_with_the_weights_of_the_epoch_before(caplog):
    collapse = Collapse(epoch=3)
    with caplog.at_level(logging.WARNING):
        network, trainer = train(collapse)
    assert trainer.current_epoch == 4  # of five
    for name, value in network.state_dict().items():
        assert torch.equal(value, collapse.before[name])
    assert "Catastrophic overfitting in epoch 3: accuracy under pgd3 fell from" in caplog.text


def test_a_training_without_a_collapse_goes_to_its_end():
    _, trainer = train(Collapse(epoch=99))
    assert trainer.current_epoch == 5


def test_a_guard_of_one_never_ends_the_training():
    _, trainer = train(Collapse(epoch=3), guard=1.0)
    assert trainer.current_epoch == 5


def test_a_training_that_was_ended_stays_ended_when_it_is_resumed():
    guard = OverfittingGuard(PROBE, fall=0.2)
    guard.load_state_dict({"collapsed": 2, "best": 0.5, "good": {}})
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    guard.on_train_start(trainer, pl.LightningModule())
    assert trainer.should_stop
