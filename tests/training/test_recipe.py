"""Learning rates against the schedules of the papers and of the released code."""

from __future__ import annotations

import pytest
from torch import nn

from nni_robust.training import RECIPES, Recipe
from nni_robust.training.objective import MART


def test_the_papers_recipe_divides_at_epochs_100_and_150_of_200():
    factor = RECIPES["paper"].factor(200)
    rates = [0.1 * factor(epoch) for epoch in (0, 99, 100, 149, 150, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_released_recipe_rises_for_20_epochs_and_falls_for_150():
    factor = RECIPES["released"].factor(170)
    # The released configuration: from 0.02 to 1.2, then to 0.001.
    rates = [1.2 * factor(epoch) for epoch in (0, 10, 20, 95, 170)]
    assert rates == pytest.approx([0.02, 0.61, 1.2, (1.2 + 0.001) / 2, 0.001])


def test_fine_tuning_starts_at_a_tenth_and_ends_at_zero():
    recipe = RECIPES["paper"].for_finetuning()
    assert recipe.learning_rate == pytest.approx(0.01)
    assert recipe.factor(3)(0) == 1.0
    assert recipe.factor(3)(3) == pytest.approx(0.0)


def test_the_released_recipe_does_not_decay_biases():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    groups = RECIPES["released"].optimizer(network).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 1e-4), (4, 0.0)]


def test_one_cycle_rises_and_falls_in_straight_lines():
    recipe = Recipe(schedule="one_cycle", warmup=0.4, warmup_share=0.0)
    rates = [recipe.factor(10)(epoch) for epoch in (0, 1, 2, 4, 7, 10)]
    assert rates == pytest.approx([0.0, 0.25, 0.5, 1.0, 0.5, 0.0])


def test_the_clean_training_of_racl_is_that_of_darts():
    recipe = RECIPES["racl_clean"]
    assert (recipe.cutout, recipe.auxiliary_weight, recipe.drop_path) == (16, 0.4, 0.3)
    assert recipe.learning_rate * recipe.factor(600)(300) == pytest.approx(0.0125)


def test_nesterov_momentum_reaches_the_optimiser():
    (group,) = Recipe(nesterov=True).optimizer(nn.Linear(2, 2)).param_groups
    assert group["nesterov"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
        ({"weight_decay": -1}, "weight_decay must not be negative"),
        ({"schedule": "linear"}, r"schedule must be one of \['step', 'cosine', 'one_cycle', 'co"),
        ({"drop_path": 1.0}, r"drop_path must lie in \[0, 1\), got 1.0"),
        ({"awp": -0.1}, "awp must not be negative, got -0.1"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov must be False without momentum"),
        ({"objective": MART(), "label_smoothing": 0.1}, "label_smoothing must be 0 .*'mart'"),
        ({"auxiliary_weight": 0.4}, "auxiliary_weight must be 0 unless the objective is 'clean'"),
    ],
)
def test_invalid_recipes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**arguments)


@pytest.mark.parametrize(("share", "epochs"), [(0.55, 100), (0.28, 100), (1 / 3, 90), (0.29, 200)])
def test_a_milestone_is_its_fraction_of_the_epochs(share, epochs):
    factor = Recipe(milestones=(share,)).factor(epochs)
    milestone = round(share * epochs)
    assert [factor(epoch) for epoch in (milestone - 1, milestone)] == [1.0, 0.1]
