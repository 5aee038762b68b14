"""The panel of one cell in a drawing: where its states and edges are, and how they are drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from nni_robust.report.cell_shape import (
    ARROW,
    FONT,
    HEADING,
    INK,
    PALE,
    SHADE,
    draw_arrow,
    draw_box,
    kind_of,
    text_width,
)
from nni_robust.report.lane import column, gaps, lanes
from nni_robust.space.edge import NUM_INPUTS, Edge

MARGIN = 12.0
_LANE = 20.0  # smallest distance between lanes; an edge with many strands needs more
_CURVE = 23.0  # width of the curve from a state to a lane
_STAGGER = 0.6  # how much later a strand turns than the one outside it, in distances of ports
_LINE, _THIN, _THICK = 1.5, 0.6, 3.6  # line widths: no weight, weight 0, largest weight
_STATE = 15.0  # half the width of a state

Strand = tuple[int, int]
"""One operation of one edge: (index of the edge, index of the operation)."""


class Scale:
    """The lengths and the legend that all panels of a figure share, so that their columns align.

    Parameters
    ----------
    cells
        All cells of the figure by name.
    """

    def __init__(self, cells: Mapping[str, Sequence[Edge]]) -> None:
        strands: Counter[tuple[str, int, bool]] = Counter()
        for cell, edge in ((cell, edge) for cell, edges in cells.items() for edge in edges):
            strands[cell, edge.source, True] += len(edge.operations)
            strands[cell, edge.target, False] += len(edge.operations)
        edges = [edge for edges in cells.values() for edge in edges if edge.operations]
        self.heaviest = max((edge.weight or 0.0 for edge in edges), default=0.0)
        self.port = (_THICK if self.heaviest else _LINE) + 3.2  # between neighbouring strands
        most = max((len(edge.operations) for edge in edges), default=0)
        self.lane = max(_LANE, self.port * most + 6.0)  # between neighbouring lanes
        spread = self.port * max(strands.values(), default=0)
        self.half = max(11.0, spread / 2 + 3.0)  # half the height of a state
        self.curve = _CURVE + _STAGGER * spread
        label = max((text_width(edge.label) for edge in edges), default=0.0) + 12.0
        self.pitch = label + 2 * (self.curve + _STATE)  # between neighbouring columns
        present = {kind_of(operation) for edge in edges for operation in edge.operations}
        self.legend = [(name, color, 2.0) for name, color in sorted(present)]
        self.legend.append(("concatenation", PALE, 2.0))
        if self.heaviest:
            self.legend.append((f"weight {self.heaviest:.3g}", INK, _THICK))

    def line_width(self, edge: Edge) -> float:
        """Return the line width of an edge."""
        if edge.weight is None:
            return _LINE
        return _THIN + (_THICK - _THIN) * edge.weight / (self.heaviest or 1.0)


class Panel:
    """The layout of one cell; ``width`` and ``height`` are the size that it needs.

    Parameters
    ----------
    name
        Heading of the panel.
    edges
        All edges of the cell.
    scale
        Scale of the figure.
    """

    def __init__(self, name: str, edges: Sequence[Edge], scale: Scale) -> None:
        self.name = name
        self.edges = [edge for edge in edges if edge.operations]
        self.lanes = lanes(self.edges)
        self.nodes = range(NUM_INPUTS, max(edge.target for edge in edges) + 1)
        self.scale = scale
        self.ports = self._ports()
        # The line that collects the nodes for the concatenation.
        self.bus = min(self._level(min([0, *self.lanes])) - 0.7 * scale.lane, -scale.half - _LANE)
        self.output = self._x(self.nodes[-1]) + 2 * _STATE + 24.0
        top = max(self._level(max([0, *self.lanes])) + 0.5 * scale.lane, self._y(0) + scale.half)
        self.bottom = min(self.bus, self._y(1) - scale.half) - 8.0
        self.width = self.output + _STATE + MARGIN
        self.height = top + 2.2 * HEADING - self.bottom

    def draw(self, axes: Axes) -> None:
        """Draw the cell on axes that have the size of the panel."""
        axes.set(xlim=(0, self.width), ylim=(self.bottom, self.bottom + self.height))
        axes.set_axis_off()
        style = {"size": HEADING, "color": INK, "family": FONT}
        axes.set_title(self.name, style, loc="left", x=MARGIN / self.width, y=1.0, pad=-14.0)
        self._draw_output(axes)
        for i, edge in enumerate(self.edges):
            for k, operation in enumerate(edge.operations):
                self._draw_strand(axes, (i, k), kind_of(operation)[1])
            self._draw_label(axes, edge, self._level(self.lanes[i]))
        self._draw_states(axes)

    def _ports(self) -> dict[tuple[int, str], list[Strand]]:
        """Return the strands on both sides of every state, from top to bottom."""
        ports: dict[tuple[int, str], list[Strand]] = {}
        for i in sorted(range(len(self.edges)), key=lambda i: -self.lanes[i]):
            strands = [(i, k) for k in range(len(self.edges[i].operations))]
            ports.setdefault((self.edges[i].source, "out"), []).extend(strands)
            ports.setdefault((self.edges[i].target, "in"), []).extend(strands)
        return ports

    def _x(self, state: int) -> float:
        return MARGIN + _STATE + column(state) * self.scale.pitch

    def _y(self, state: int) -> float:
        """Return the height of a state: 0 for nodes, the mean of the lanes that leave an input."""
        if state >= NUM_INPUTS:
            return 0.0
        pairs = zip(self.edges, self.lanes, strict=True)
        levels = [abs(self._level(lane)) for edge, lane in pairs if edge.source == state]
        level = max(self.scale.half + 4.0, sum(levels) / max(len(levels), 1))
        return level if state == 0 else -level

    def _level(self, lane: int) -> float:
        """Return the height of a lane."""
        if lane == 0:
            return 0.0
        return math.copysign(self.scale.half + (abs(lane) - 0.5) * self.scale.lane, lane)

    def _turn(self, strand: Strand, side: str, level: float) -> tuple[float, float]:
        """Return the height at which a strand meets a state, and how far off it turns to its lane.

        The outer one of two neighbours turns first, so that they stay apart where they are steep.
        """
        edge = self.edges[strand[0]]
        state = edge.source if side == "out" else edge.target
        order = self.ports[state, side]
        offset = self.scale.port * ((len(order) - 1) / 2 - order.index(strand))
        height = self._y(state) + offset
        inner = math.copysign(offset, offset * (level - height))
        return height, _STAGGER * (self.scale.port * (len(order) - 1) / 2 - inner)

    def _draw_output(self, axes: Axes) -> None:
        """Draw the concatenation: all nodes go down to one line, which ends in the output."""
        low, end, corner = self.bus, self.output, 6.0
        for node in self.nodes:
            x = self._x(node)
            vertices = [(x, -self.scale.half), (x, low + corner), (x, low), (x + corner, low)]
            vertices += [(end - corner, low), (end, low), (end, low + corner)]
            vertices += [(end, -self.scale.half)]
            draw_arrow(axes, vertices, "MLQQLQQL", color=PALE, width=_LINE)

    def _draw_strand(self, axes: Axes, strand: Strand, color: str) -> None:
        edge = self.edges[strand[0]]
        level = self._level(self.lanes[strand[0]])
        level += self.scale.port * ((len(edge.operations) - 1) / 2 - strand[1])
        y0, wait0 = self._turn(strand, "out", level)
        y1, wait1 = self._turn(strand, "in", level)
        x0, x1 = self._x(edge.source) + _STATE, self._x(edge.target) - _STATE
        a, b, bend = x0 + wait0, x1 - wait1 - ARROW, 0.5 * _CURVE
        vertices = [(x0, y0), (a, y0), (a + bend, y0), (a + bend, level), (a + _CURVE, level)]
        vertices += [(b - _CURVE, level), (b - bend, level), (b - bend, y1), (b, y1), (x1, y1)]
        width = self.scale.line_width(edge)
        patch = draw_arrow(axes, vertices, "MLCCCLCCCL", color=color, width=width)
        # A white border shows which of two crossing strands is on top.
        patch.set_path_effects([withStroke(linewidth=width + 2.4, foreground="white")])

    def _draw_label(self, axes: Axes, edge: Edge, level: float) -> None:
        crossed = gaps(edge)
        gap = crossed[len(crossed) // 2]
        center = (MARGIN + _STATE + (gap + 0.5) * self.scale.pitch, level)
        colors = {kind_of(operation)[1] for operation in edge.operations}
        color = colors.pop() if len(colors) == 1 else INK
        half = (text_width(edge.label) / 2 + 5.0, 7.0)
        draw_box(axes, center, half, edge.label, color=color, border=0.8)

    def _draw_states(self, axes: Axes) -> None:
        half = (_STATE, self.scale.half)
        for state in range(NUM_INPUTS):
            place, name = (self._x(state), self._y(state)), f"$c_{{k-{NUM_INPUTS - state}}}$"
            draw_box(axes, place, half, name, color=INK, fill=SHADE)
        targets = {edge.target for edge in self.edges}
        for node in self.nodes:
            line = "-" if node in targets else ":"
            draw_box(axes, (self._x(node), 0.0), half, str(node), color=INK, line=line)
        draw_box(axes, (self.output, 0.0), half, "$c_k$", color=INK, fill=SHADE)
