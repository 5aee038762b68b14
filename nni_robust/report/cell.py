"""Drawings of cells: states from left to right, connected by labelled operations.

An edge leaves its source, follows its own lane above, below or on the line of the nodes, and enters
its target. Curves are next to the states and labels in the gaps between them. So no label can
touch another label or the line of another edge, even in a dense cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nni_robust.check import SettingError
from nni_robust.report.cell_panel import MARGIN, Panel, Scale
from nni_robust.report.cell_shape import FONT, HEADING, INK, LABEL, text_width
from nni_robust.report.figure import save_figure
from nni_robust.space.edge import Edge

_MAX_ROWS = 5  # of panels


def draw_cells(cells: Mapping[str, Sequence[Edge]], *, title: str | None = None) -> Figure:
    """Draw cells, one panel per cell.

    Parameters
    ----------
    cells
        Maps the name of each cell, such as ``normal`` and ``reduce``, to its edges. The nodes are 2
        up to the largest target, and the output of the cell concatenates all of them. A node
        without operations on its edges has a dotted border.
    title
        Line above the panels.

    Returns
    -------
    matplotlib.figure.Figure
        As large as its content needs, with labels of 9 points.

    Examples
    --------
    >>> figure = draw_cells({"normal": [Edge(0, 2, ("conv",)), Edge(1, 2, ("identity",))]})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['normal']
    """
    _check(cells)
    scale = Scale(cells)
    panels = [Panel(name, edges, scale) for name, edges in cells.items()]
    num_columns = math.ceil(len(panels) / _MAX_ROWS)
    rows = [panels[i : i + num_columns] for i in range(0, len(panels), num_columns)]
    column = max(panel.width for panel in panels)
    width = max(num_columns * column, text_width(title or "", 1.1 * HEADING) + 2 * MARGIN)
    legend_columns, legend_height = _legend_shape(scale.legend, width)
    top = sum(max(panel.height for panel in row) for row in rows) + legend_height
    height = top + (0.0 if title is None else 2.0 * HEADING)

    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    if title is not None:
        style = {"size": HEADING, "weight": "bold", "color": INK, "family": FONT}
        figure.text(0.5, (top + 2.0) / height, title, ha="center", fontdict=style)
    for row in rows:
        for position, panel in enumerate(row):
            place = (position * column / width, (top - panel.height) / height)
            panel.draw(figure.add_axes((*place, panel.width / width, panel.height / height)))
        top -= max(panel.height for panel in row)
    _draw_legend(figure, scale.legend, legend_columns)
    return figure


def save_cells(
    path: str | Path, cells: Mapping[str, Sequence[Edge]], *, title: str | None = None
) -> tuple[Path, Path]:
    """Draw cells to an SVG and a PNG file.

    The same cells give the same bytes; see :func:`nni_robust.report.figure.save_figure`.

    Parameters
    ----------
    path
        The files without their suffix; a suffix ``.svg`` or ``.png`` is removed. Missing folders
        are created.
    cells, title
        Arguments of :func:`draw_cells`.

    Returns
    -------
    svg, png
        The files written.
    """
    path = Path(path)
    base = path.with_suffix("") if path.suffix in {".svg", ".png"} else path
    return save_figure(base, lambda: draw_cells(cells, title=title))


def _check(cells: Mapping[str, Sequence[Edge]]) -> None:
    if not cells:
        raise SettingError("must contain at least one cell, got none.", "cells")
    for name, edges in cells.items():
        if not edges:
            raise SettingError("must contain at least one edge, got none.", "cells", name)


def _legend_shape(legend: Sequence[tuple[str, str, float]], width: float) -> tuple[int, float]:
    """Return the number of columns that fit into the width, and the height of the legend."""
    widths = [text_width(name) + 46.0 for name, _, _ in legend]
    columns = len(legend) if sum(widths) <= width else max(1, int(width / max(widths)))
    return columns, 15.0 * math.ceil(len(legend) / columns) + 4.0


def _draw_legend(figure: Figure, legend: Sequence[tuple[str, str, float]], columns: int) -> None:
    figure.legend(
        handles=[Line2D([], [], color=color, linewidth=line) for _, color, line in legend],
        labels=[name for name, _, _ in legend],
        loc="lower center",
        ncols=columns,
        frameon=False,
        borderaxespad=0.2,
        prop={"family": FONT, "size": LABEL},
        labelcolor=INK,
    )
