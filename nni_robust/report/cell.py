"""Drawings of cells: states from left to right, operations as labelled edges between them.

An edge leaves its source, runs in a lane of its own above, below or on the line of the nodes, and
enters its target. Curves lie beside the states, labels in the gaps between them, so that no label
can meet another or the line of another edge, however dense the cell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nni_robust.report.figure import save_figure
from nni_robust.report.lane import NUM_INPUTS, Edge, column, lanes

if TYPE_CHECKING:  # matplotlib is loaded by the first drawing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

KINDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("dilated convolution", ("dil",), "#c2570c"),
    ("pooling", ("pool",), "#0a7f5c"),
    ("skip connection", ("skip", "identity"), "#6b7280"),
    ("convolution", ("conv",), "#1f5fa8"),
    ("other operation", ("",), "#9d3c83"),
)
"""Kinds of operation: name, what the name of an operation contains (the first match counts),
colour."""

# Lengths are points; on a panel one unit of data is one point.
_FONT = "DejaVu Sans"
_LABEL, _HEADING = 9.0, 11.0  # sizes of text
_LANE = 20.0  # from one lane to the next, more where a lane carries many strands
_CURVE = 23.0  # width of the curve from a state to a lane
_STAGGER = 0.6  # how much later a strand turns than the one outside it, in distances of ports
_LINE, _THIN, _THICK = 1.5, 0.6, 3.6  # widths of lines: plain, of weight 0, of the largest weight
_STATE = 15.0  # half the width of a state
_ARROW = 5.0
_MARGIN = 12.0
_MAX_ROWS = 5  # of panels
_INK, _PALE, _SHADE = "#1f2937", "#aab1bd", "#eef1f5"


def draw_cells(cells: Mapping[str, Sequence[Edge]], *, title: str | None = None) -> Figure:
    """Draw cells, one panel each.

    Parameters
    ----------
    cells
        Name of the cell, such as ``normal`` and ``reduce``, and its edges. The nodes are 2 up to
        the largest target; all of them go to the output of the cell by concatenation. A node
        that no operation feeds has a dotted border.
    title
        Line above the panels.

    Returns
    -------
    matplotlib.figure.Figure
        Its size follows from what it shows, with labels of 9 points.

    Examples
    --------
    >>> figure = draw_cells({"normal": [Edge(0, 2, ("conv",)), Edge(1, 2, ("identity",))]})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['normal']
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    _check(cells)
    scale = _Scale(cells)
    panels = [_Panel(name, edges, scale) for name, edges in cells.items()]
    num_columns = math.ceil(len(panels) / _MAX_ROWS)
    rows = [panels[i : i + num_columns] for i in range(0, len(panels), num_columns)]
    column = max(panel.width for panel in panels)
    width = max(num_columns * column, _text_width(title or "", 1.1 * _HEADING) + 2 * _MARGIN)
    legend_columns, legend_height = _legend_shape(scale.legend, width)
    top = sum(max(panel.height for panel in row) for row in rows) + legend_height
    height = top + (0.0 if title is None else 2.0 * _HEADING)

    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    if title is not None:
        style = {"size": _HEADING, "weight": "bold", "color": _INK, "family": _FONT}
        figure.text(0.5, (top + 2.0) / height, title, ha="center", fontdict=style)
    for row in rows:
        for position, panel in enumerate(row):
            place = (position * column / width, (top - panel.height) / height)
            panel.draw(figure.add_axes((*place, panel.width / width, panel.height / height)))
        top -= max(panel.height for panel in row)
    figure.legend(
        handles=[Line2D([], [], color=color, linewidth=line) for _, color, line in scale.legend],
        labels=[name for name, _, _ in scale.legend],
        loc="lower center",
        ncols=legend_columns,
        frameon=False,
        borderaxespad=0.2,
        prop={"family": _FONT, "size": _LABEL},
        labelcolor=_INK,
    )
    return figure


def save_cells(
    path: str | Path, cells: Mapping[str, Sequence[Edge]], *, title: str | None = None
) -> tuple[Path, Path]:
    """Draw cells into two files, as SVG and as PNG.

    The same cells give the same bytes. Both drawings are made before the first file is touched,
    and a file is replaced whole.

    Parameters
    ----------
    path
        The files without their suffix; ``.svg`` or ``.png`` at its end is taken off. Folders
        that are missing are made.
    cells, title
        As for :func:`draw_cells`.

    Returns
    -------
    svg, png
        The files written.
    """
    path = Path(path)
    base = path.with_suffix("") if path.suffix in {".svg", ".png"} else path
    return save_figure(base, lambda: draw_cells(cells, title=title))


class _Scale:
    """What the panels of a figure share: lengths, so that their columns meet, and the legend."""

    def __init__(self, cells: Mapping[str, Sequence[Edge]]) -> None:
        strands: Counter[tuple[str, int, bool]] = Counter()
        for cell, edge in ((cell, edge) for cell, edges in cells.items() for edge in edges):
            strands[cell, edge.source, True] += len(edge.operations)
            strands[cell, edge.target, False] += len(edge.operations)
        edges = [edge for edges in cells.values() for edge in edges if edge.operations]
        self.heaviest = max((edge.weight or 0.0 for edge in edges), default=0.0)
        self.port = (_THICK if self.heaviest else _LINE) + 3.2  # from one strand to the next
        most = max((len(edge.operations) for edge in edges), default=0)
        self.lane = max(_LANE, self.port * most + 6.0)  # from one lane to the next
        spread = self.port * max(strands.values(), default=0)
        self.half = max(11.0, spread / 2 + 3.0)  # half the height of a state
        self.curve = _CURVE + _STAGGER * spread
        label = max((_text_width(edge.label) for edge in edges), default=0.0) + 12.0
        self.pitch = label + 2 * (self.curve + _STATE)  # from one column to the next
        present = {kind_of(operation) for edge in edges for operation in edge.operations}
        self.legend = [(name, color, 2.0) for name, color in sorted(present)]
        self.legend.append(("concatenation", _PALE, 2.0))
        if self.heaviest:
            self.legend.append((f"weight {self.heaviest:.3g}", _INK, _THICK))

    def line_width(self, edge: Edge) -> float:
        """Width of the lines of an edge."""
        if edge.weight is None:
            return _LINE
        return _THIN + (_THICK - _THIN) * edge.weight / (self.heaviest or 1.0)


class _Panel:
    """One cell: where everything lies, and how it is drawn."""

    def __init__(self, name: str, edges: Sequence[Edge], scale: _Scale) -> None:
        self.name = name
        self.edges = [edge for edge in edges if edge.operations]
        self.lanes = lanes(self.edges)
        self.nodes = range(NUM_INPUTS, max(edge.target for edge in edges) + 1)
        self.scale = scale
        self.ports = self._ports()
        self.bus = min(self._level(min([0, *self.lanes])) - 0.7 * scale.lane, -scale.half - _LANE)
        self.output = self._x(self.nodes[-1]) + 2 * _STATE + 24.0
        top = max(self._level(max([0, *self.lanes])) + 0.5 * scale.lane, self._y(0) + scale.half)
        self.bottom = min(self.bus, self._y(1) - scale.half) - 8.0
        self.width = self.output + _STATE + _MARGIN
        self.height = top + 2.2 * _HEADING - self.bottom

    def _ports(self) -> dict[tuple[int, str], list[tuple[int, int]]]:
        """Order the strands (edge, operation) at either side of every state from top to bottom."""
        ports: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for i in sorted(range(len(self.edges)), key=lambda i: -self.lanes[i]):
            strands = [(i, k) for k in range(len(self.edges[i].operations))]
            ports.setdefault((self.edges[i].source, "out"), []).extend(strands)
            ports.setdefault((self.edges[i].target, "in"), []).extend(strands)
        return ports

    def _x(self, state: int) -> float:
        return _MARGIN + _STATE + column(state) * self.scale.pitch

    def _y(self, state: int) -> float:
        """Height of a state: nodes lie on the line, an input amid the lanes that leave it."""
        if state >= NUM_INPUTS:
            return 0.0
        pairs = zip(self.edges, self.lanes, strict=True)
        levels = [abs(self._level(lane)) for edge, lane in pairs if edge.source == state]
        level = max(self.scale.half + 4.0, sum(levels) / max(len(levels), 1))
        return level if state == 0 else -level

    def _level(self, lane: int) -> float:
        """Height of a lane."""
        if lane == 0:
            return 0.0
        return math.copysign(self.scale.half + (abs(lane) - 0.5) * self.scale.lane, lane)

    def _turn(self, strand: tuple[int, int], side: str, level: float) -> tuple[float, float]:
        """Give the height at which a strand meets a state, and how far off it turns to its lane.

        Of neighbours the outer one turns first, so that they stay apart where they are steep.
        """
        edge = self.edges[strand[0]]
        state = edge.source if side == "out" else edge.target
        order = self.ports[state, side]
        offset = self.scale.port * ((len(order) - 1) / 2 - order.index(strand))
        height = self._y(state) + offset
        inner = math.copysign(offset, offset * (level - height))
        return height, _STAGGER * (self.scale.port * (len(order) - 1) / 2 - inner)

    def draw(self, axes: Axes) -> None:
        """Fill the axes, which must have the size of the panel."""
        axes.set(xlim=(0, self.width), ylim=(self.bottom, self.bottom + self.height))
        axes.set_axis_off()
        style = {"size": _HEADING, "color": _INK, "family": _FONT}
        axes.set_title(self.name, style, loc="left", x=_MARGIN / self.width, y=1.0, pad=-14.0)
        self._draw_output(axes)
        for i, edge in enumerate(self.edges):
            for k, operation in enumerate(edge.operations):
                self._draw_strand(axes, (i, k), kind_of(operation)[1])
            self._draw_label(axes, edge, self._level(self.lanes[i]))
        half = (_STATE, self.scale.half)
        for state in range(NUM_INPUTS):
            place, name = (self._x(state), self._y(state)), f"$c_{{k-{NUM_INPUTS - state}}}$"
            _draw_box(axes, place, half, name, color=_INK, fill=_SHADE)
        fed = {edge.target for edge in self.edges}
        for node in self.nodes:
            line = "-" if node in fed else ":"
            _draw_box(axes, (self._x(node), 0.0), half, str(node), color=_INK, line=line)
        _draw_box(axes, (self.output, 0.0), half, "$c_k$", color=_INK, fill=_SHADE)

    def _draw_output(self, axes: Axes) -> None:
        """Draw the concatenation: every node goes down to one line, which ends in the output."""
        low, end, corner = self.bus, self.output, 6.0
        for node in self.nodes:
            x = self._x(node)
            vertices = [(x, -self.scale.half), (x, low + corner), (x, low), (x + corner, low)]
            vertices += [(end - corner, low), (end, low), (end, low + corner)]
            vertices += [(end, -self.scale.half)]
            _draw_arrow(axes, vertices, "MLQQLQQL", color=_PALE, width=_LINE)

    def _draw_strand(self, axes: Axes, strand: tuple[int, int], color: str) -> None:
        from matplotlib.patheffects import withStroke

        edge = self.edges[strand[0]]
        level = self._level(self.lanes[strand[0]])
        level += self.scale.port * ((len(edge.operations) - 1) / 2 - strand[1])
        y0, wait0 = self._turn(strand, "out", level)
        y1, wait1 = self._turn(strand, "in", level)
        x0, x1 = self._x(edge.source) + _STATE, self._x(edge.target) - _STATE
        a, b, bend = x0 + wait0, x1 - wait1 - _ARROW, 0.5 * _CURVE
        vertices = [(x0, y0), (a, y0), (a + bend, y0), (a + bend, level), (a + _CURVE, level)]
        vertices += [(b - _CURVE, level), (b - bend, level), (b - bend, y1), (b, y1), (x1, y1)]
        width = self.scale.line_width(edge)
        patch = _draw_arrow(axes, vertices, "MLCCCLCCCL", color=color, width=width)
        # What is drawn later passes visibly over what is drawn earlier.
        patch.set_path_effects([withStroke(linewidth=width + 2.4, foreground="white")])

    def _draw_label(self, axes: Axes, edge: Edge, level: float) -> None:
        gap = edge.gaps[len(edge.gaps) // 2]
        center = (_MARGIN + _STATE + (gap + 0.5) * self.scale.pitch, level)
        colors = {kind_of(operation)[1] for operation in edge.operations}
        color = colors.pop() if len(colors) == 1 else _INK
        half = (_text_width(edge.label) / 2 + 5.0, 7.0)
        _draw_box(axes, center, half, edge.label, color=color, border=0.8)


def kind_of(operation: str) -> tuple[str, str]:
    """Give the kind of an operation, and its colour.

    Examples
    --------
    >>> kind_of("dil_conv_5x5")[0]
    'dilated convolution'
    """
    return next(
        (name, color) for name, words, color in KINDS if any(word in operation for word in words)
    )


def _check(cells: Mapping[str, Sequence[Edge]]) -> None:
    if not cells:
        raise ValueError("cells must hold at least one cell, got none.")
    for name, edges in cells.items():
        if not edges:
            raise ValueError(f"cells[{name!r}] must hold at least one edge, got none.")


def _legend_shape(legend: Sequence[tuple[str, str, float]], width: float) -> tuple[int, float]:
    """Give the number of columns that fit into the width, and their height."""
    widths = [_text_width(name) + 46.0 for name, _, _ in legend]
    columns = len(legend) if sum(widths) <= width else max(1, int(width / max(widths)))
    return columns, 15.0 * math.ceil(len(legend) / columns) + 4.0


def _text_width(text: str, size: float = _LABEL) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text:
        return 0.0
    path = TextPath((0.0, 0.0), text, size=size, prop=FontProperties(family=_FONT))
    return float(path.get_extents().width)


def _draw_arrow(
    axes: Axes, vertices: list[tuple[float, float]], codes: str, *, color: str, width: float
) -> Patch:
    """Draw a path with a head; codes are Move, Line, Quadratic and Cubic, a letter a vertex."""
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    numbers = {"M": Outline.MOVETO, "L": Outline.LINETO, "Q": Outline.CURVE3, "C": Outline.CURVE4}
    (x0, y0), (x, y) = vertices[-2:]
    length, half = math.dist((x0, y0), (x, y)), 1.4 + 0.6 * width
    dx, dy = (x - x0) / length, (y - y0) / length
    back = (x - _ARROW * dx, y - _ARROW * dy)
    sides = [(back[0] - s * half * dy, back[1] + s * half * dx) for s in (1, -1)]
    outline = Outline([*vertices[:-1], back], [numbers[code] for code in codes])
    patch = PathPatch(outline, fill=False, edgecolor=color, linewidth=width, zorder=2.0)
    axes.add_patch(patch)
    axes.add_patch(Polygon([(x, y), *sides], facecolor=color, linewidth=0, zorder=2.5))
    return patch


def _draw_box(
    axes: Axes,
    center: tuple[float, float],
    half: tuple[float, float],
    text: str,
    *,
    color: str,
    fill: str = "white",
    border: float = 1.0,
    line: str = "-",
) -> None:
    """Draw a text in a rounded box of which half the width and height are given."""
    from matplotlib.patches import FancyBboxPatch

    corner = (center[0] - half[0], center[1] - half[1])
    style = f"round,pad=0,rounding_size={min(*half, 8.0)}"
    box = FancyBboxPatch(corner, 2 * half[0], 2 * half[1], boxstyle=style, zorder=3.0)
    box.set(facecolor=fill, edgecolor=color, linewidth=border, linestyle=line)
    axes.add_patch(box)
    font = {"size": _LABEL, "color": color, "family": _FONT, "math_fontfamily": "dejavusans"}
    axes.text(*center, text, font, ha="center", va="center_baseline", zorder=4.0)
