"""The papers' formulas as pure functions of tensors."""

from __future__ import annotations

from nni_robust.functional.fsp import fsp_distance, fsp_matrix
from nni_robust.functional.lognormal import (
    confidence_constraint,
    lipschitz_log_normal,
    log_normal_sum,
)
from nni_robust.functional.projection import (
    project_ball,
    project_image_range,
    steepest_ascent,
    uniform_in_ball,
)

__all__ = [
    "confidence_constraint",
    "fsp_distance",
    "fsp_matrix",
    "lipschitz_log_normal",
    "log_normal_sum",
    "project_ball",
    "project_image_range",
    "steepest_ascent",
    "uniform_in_ball",
]
