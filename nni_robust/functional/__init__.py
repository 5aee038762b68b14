"""Tensor mathematics: every formula a pure function of tensors, without NNI."""

from __future__ import annotations

from nni_robust.functional.fsp import fsp_distance, fsp_matrix
from nni_robust.functional.projection import (
    project_ball,
    project_image_range,
    steepest_ascent,
    uniform_in_ball,
)

__all__ = [
    "fsp_distance",
    "fsp_matrix",
    "project_ball",
    "project_image_range",
    "steepest_ascent",
    "uniform_in_ball",
]
