"""Learning rates against the schedules that the papers and the released code state."""

from __future__ import annotations

import pytest
from torch import nn

from nni_robust.evaluator import RECIPES, Recipe


def test_the_papers_recipe_divides_at_epochs_100_and_150_of_200():
    factor = RECIPES["paper"].factor(200)
    rates = [0.1 * factor(epoch) for epoch in (0, 99, 100, 149, 150, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_released_recipe_climbs_for_20_epochs_and_falls_for_150():
    factor = RECIPES["released"].factor(170)
    # The released configuration: from 0.02 to 1.2, then to 0.001.
    rates = [1.2 * factor(epoch) for epoch in (0, 10, 20, 95, 170)]
    assert rates == pytest.approx([0.02, 0.61, 1.2, (1.2 + 0.001) / 2, 0.001])


def test_fine_tuning_starts_at_a_tenth_and_ends_at_zero():
    recipe = RECIPES["paper"].for_finetuning()
    assert recipe.learning_rate == pytest.approx(0.01)
    assert recipe.factor(3)(0) == 1.0
    assert recipe.factor(3)(3) == pytest.approx(0.0)


def test_the_released_recipe_decays_no_biases():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    groups = RECIPES["released"].optimizer(network).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 1e-4), (4, 0.0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
        ({"weight_decay": -1}, "weight_decay must not be negative"),
        ({"schedule": "linear"}, "schedule must be 'step', 'cosine' or 'constant'"),
    ],
)
def test_wrong_recipes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**arguments)
