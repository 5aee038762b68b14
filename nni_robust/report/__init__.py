"""What is read off records and architectures: drawings of cells."""

from __future__ import annotations

from nni_robust.report.cell import Edge, draw_cells, save_cells

__all__ = ["Edge", "draw_cells", "save_cells"]
