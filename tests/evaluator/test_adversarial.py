"""Adversarial training, alone and under one-shot strategies."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import nni
import pytest
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from nni.nas.strategy import DARTS, GumbelDARTS, Proxyless, RandomOneShot
from torch import nn

from nni_robust.attack import PGD, Attack, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification, attacked_accuracy
from nni_robust.oneshot import LoopOptions, PathSamplingOneShot
from nni_robust.space import RobNetSpace
from nni_robust.strategy import RACL
from nni_robust.training import RECIPES, Recipe
from nni_robust.training.objective import OBJECTIVES

DATA = {"num_classes": 3, "image_shape": (1, 8, 8), "num_examples": 96, "batch_size": 24}
ATTACK = PGD(threat_model=ThreatModel(epsilon=0.1), steps=2, step_size=0.06)
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Spy(Attack):
    """Runs another attack and records how far the images moved."""

    def __init__(self) -> None:
        super().__init__(threat_model=ATTACK.threat_model)
        object.__setattr__(self, "moved", [])

    def _perturb(self, network, x, y, generator):
        x_adv = ATTACK._perturb(network, x, y, generator)
        self.moved.append((x_adv - x).abs().max().item())
        return x_adv


class UserSpace(ModelSpace):
    """A space as a user of NNI writes it: two LayerChoices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.first = LayerChoice(
            OrderedDict(conv=nn.Conv2d(4, 4, 3, padding=1), skip=nn.Identity()), label="first"
        )
        self.second = LayerChoice(
            OrderedDict(conv=nn.Conv2d(4, 4, 1), pool=nn.AvgPool2d(3, 1, 1)), label="second"
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.relu(self.first(self.stem(x))))
        return self.head(x.mean((2, 3)))


def search(
    strategy: Any,
    space: ModelSpace,
    attack: Attack,
    recipe: Recipe = Recipe(),  # noqa: B008
) -> dict[str, Any]:
    data = Synthetic(**DATA)
    evaluator = AdversarialClassification(
        train_dataloaders=data.train_dataloader(),
        val_dataloaders=data.val_dataloader(),
        train_attack=attack,
        recipe=recipe,
        max_epochs=1,
        **QUIET,
    )
    strategy(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
    return next(iter(strategy.list_models())).sample


@pytest.mark.filterwarnings("ignore")  # NNI's one-shot code and Lightning warn about each other
@pytest.mark.parametrize("strategy", [RandomOneShot, DARTS, GumbelDARTS, Proxyless])
def test_nnis_one_shot_strategies_become_adversarial_on_a_users_space(strategy):
    spy = Spy()
    sample = search(strategy(), UserSpace(), spy)
    assert sample["first"] in ("conv", "skip")
    assert sample["second"] in ("conv", "pool")
    assert len(spy.moved) >= 3  # every batch of the epoch
    assert all(0 < moved <= 0.1 + 1e-6 for moved in spy.moved)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", [RandomOneShot, DARTS, GumbelDARTS, Proxyless])
def test_nnis_one_shot_strategies_become_adversarial_on_nnis_hub(strategy):
    from nni.nas.hub.pytorch import NasBench201

    space = NasBench201(stem_out_channels=4, num_modules_per_stack=1, num_labels=3)
    space.stem[0] = nn.Conv2d(1, 4, 3, padding=1, bias=False)  # grey images
    spy = Spy()
    sample = search(strategy(), space, spy)
    assert len(sample) == 6
    assert len(spy.moved) >= 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", [RandomOneShot, DARTS, RACL])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_and_option_works_under_one_shot_strategies(name, strategy):
    space = UserSpace()
    before = space.stem.weight.detach().clone()
    options = {"loop": LoopOptions(warmup_epochs=0)} if strategy is RACL else {}
    recipe = Recipe(objective=OBJECTIVES[name](), ema=0.9, awp=0.01, cutout=3)
    sample = search(strategy(**options), space, ATTACK, recipe)
    assert sample["first"] in ("conv", "skip")
    assert not torch.equal(space.stem.weight, before)
    assert torch.isfinite(space.stem.weight).all()


@pytest.mark.filterwarnings("ignore")
def test_our_one_shot_strategy_trains_on_drawn_subnetworks():
    spy = Spy()
    space = RobNetSpace(num_cells=2, width=4, num_classes=3, in_channels=1, convolutions=(3, 7))
    sample = search(PathSamplingOneShot(seed=1), space, spy)
    assert len(spy.moved) >= 3
    assert 3 <= sum("conv" in operations for operations in sample.values()) <= 7


def train(recipe: Recipe, attack: Attack | None, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    evaluator = AdversarialClassification(
        data=Synthetic(**DATA),
        train_attack=attack,
        recipe=recipe,
        **{**QUIET, "max_epochs": 15, "limit_val_batches": 0, **options},
    )
    evaluator.evaluate(network)
    return network


@pytest.mark.filterwarnings("ignore")
def test_adversarial_training_resists_better_than_clean_training():
    recipe = Recipe(learning_rate=0.05)
    clean, adversarial = train(recipe, None), train(recipe, ATTACK)
    x, y = Synthetic(**DATA).examples("test")
    attack = PGD(threat_model=ATTACK.threat_model, steps=20, step_size=0.02)
    results = [attacked_accuracy(n, x, y, attacks=[attack]) for n in (clean, adversarial)]
    assert results[1]["robust"] > results[0]["robust"]


@pytest.mark.filterwarnings("ignore")
def test_one_seed_gives_one_training():
    a, b = (train(Recipe(), ATTACK, max_epochs=2) for _ in range(2))
    for left, right in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_not_finite_ends_the_training_with_the_reason():
    with pytest.raises(FloatingPointError, match=r"training loss became (nan|inf).*Lower"):
        train(Recipe(learning_rate=1e9), ATTACK)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_for_an_epoch(name):
    recipe = RECIPES[name]
    if name == "racl_clean":
        with pytest.raises(ValueError, match=r"recipe\.drop_path must be 0 for a network without"):
            train(recipe, ATTACK, max_epochs=1)
        recipe = replace(recipe, drop_path=0.0, auxiliary_weight=0.0, cutout=4)
    network = train(recipe, ATTACK, max_epochs=1)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


@pytest.mark.filterwarnings("ignore")
def test_a_network_without_an_auxiliary_head_is_refused_if_the_recipe_weighs_one():
    recipe = Recipe(objective=OBJECTIVES["clean"](), auxiliary_weight=0.4)
    with pytest.raises(ValueError, match=r"recipe\.auxiliary_weight must be 0 for a network"):
        train(recipe, None, max_epochs=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("objective", ["pgd_at", "free"])
def test_loaders_of_our_data_reach_a_trial_within_nnis_64_kilobytes(objective):
    data = Synthetic(**{**DATA, "num_examples": 600})  # 150 KB of images
    evaluator = AdversarialClassification(
        train_dataloaders=data.train_dataloader(),
        val_dataloaders=data.val_dataloader(),
        train_attack=ATTACK,
        recipe=Recipe(objective=OBJECTIVES[objective]()),
        max_epochs=1,
        **QUIET,
    )
    model = SimplifiedModelSpace.from_model(UserSpace(), evaluator).random()
    # As TunerCommandChannel.send_trial does.
    payload = nni.dump({"parameters": model}, pickle_size_limit=64 * 1024)
    assert len(payload) < 8 * 1024
    received = nni.load(payload)["parameters"]
    assert received.sample == model.sample
    received.evaluator.evaluate(received.executable_model())
    robust = received.evaluator.trainer.callback_metrics["train_robust"]
    assert 0 < robust <= 1


def test_a_recipe_is_stored_with_its_objective():
    evaluator = AdversarialClassification(recipe=RECIPES["modern"], **QUIET)
    assert nni.load(nni.dump(evaluator)).module.recipe == RECIPES["modern"]


def test_the_evaluator_is_stored_by_name_and_arguments():
    evaluator = AdversarialClassification(data=Synthetic(**DATA), max_epochs=3, **QUIET)
    text = nni.dump(evaluator)
    assert "AdversarialClassification" in text
    assert nni.load(text).trainer.max_epochs == 3


def test_a_wrong_attack_mode_is_refused():
    with pytest.raises(
        ValueError, match=r"attack_mode must be one of \['train', 'eval'\], got 'test'"
    ):
        AdversarialClassification(data=Synthetic(**DATA), attack_mode="test", **QUIET)
