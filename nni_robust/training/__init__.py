"""How weights are trained: objectives, recipes, weight averaging, batch-norm statistics."""

from __future__ import annotations

from nni_robust.training.batch_norm import reestimate_batch_norm
from nni_robust.training.objective import OBJECTIVES, Objective
from nni_robust.training.recipe import RECIPES, Recipe

__all__ = ["OBJECTIVES", "RECIPES", "Objective", "Recipe", "reestimate_batch_norm"]
