"""Reports from records and architectures: tables, figures and drawings of cells."""

from __future__ import annotations

from nni_robust.report.cell import draw_cells, save_cells
from nni_robust.report.plot import PLOTS
from nni_robust.report.published import TABLES

__all__ = ["PLOTS", "TABLES", "draw_cells", "save_cells"]
