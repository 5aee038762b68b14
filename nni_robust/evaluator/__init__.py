"""Evaluators: what a network is worth."""

from __future__ import annotations

from nni.nas.evaluator import Evaluator

from nni_robust.evaluator.adversarial import (
    AdversarialClassification,
    AdversarialClassificationModule,
    ReportToNNI,
)
from nni_robust.evaluator.batch_norm import reestimate_batch_norm
from nni_robust.evaluator.fsp import FSPDistance, FSPFilter, cell_fsp_distances
from nni_robust.evaluator.interval import accuracy_interval
from nni_robust.evaluator.objective import OBJECTIVES, Objective
from nni_robust.evaluator.outcome import Robustness
from nni_robust.evaluator.recipe import RECIPES, Recipe
from nni_robust.evaluator.robustness import (
    RobustAccuracy,
    attacked_accuracy,
    measure_robustness,
)
from nni_robust.evaluator.suite import TIERS

__all__ = [
    "EVALUATORS",
    "OBJECTIVES",
    "RECIPES",
    "TIERS",
    "AdversarialClassification",
    "AdversarialClassificationModule",
    "FSPDistance",
    "FSPFilter",
    "Objective",
    "Recipe",
    "ReportToNNI",
    "RobustAccuracy",
    "Robustness",
    "accuracy_interval",
    "attacked_accuracy",
    "cell_fsp_distances",
    "measure_robustness",
    "reestimate_batch_norm",
]

EVALUATORS: dict[str, type[Evaluator]] = {
    "adversarial_classification": AdversarialClassification,
    "robust_accuracy": RobustAccuracy,
    "fsp_distance": FSPDistance,
}
