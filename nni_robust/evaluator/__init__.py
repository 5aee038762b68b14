"""Evaluators: adversarial training, robust accuracy, FSP distance."""

from __future__ import annotations

from nni.nas.evaluator import Evaluator

from nni_robust.evaluator.adversarial import AdversarialClassification
from nni_robust.evaluator.fsp import FSPDistance, FSPFilter, cell_fsp_distances
from nni_robust.evaluator.outcome import Robustness
from nni_robust.evaluator.report_to_nni import ReportToNNI
from nni_robust.evaluator.robustness import (
    RobustAccuracy,
    attacked_accuracy,
    measure_robustness,
)
from nni_robust.evaluator.suite import TIERS

__all__ = [
    "EVALUATORS",
    "TIERS",
    "AdversarialClassification",
    "FSPDistance",
    "FSPFilter",
    "ReportToNNI",
    "RobustAccuracy",
    "Robustness",
    "attacked_accuracy",
    "cell_fsp_distances",
    "measure_robustness",
]

EVALUATORS: dict[str, type[Evaluator]] = {
    "adversarial_classification": AdversarialClassification,
    "robust_accuracy": RobustAccuracy,
    "fsp_distance": FSPDistance,
}
