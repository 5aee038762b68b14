"""The shapes and colours of a drawn cell: arrows, labelled boxes, kinds of operations."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

KINDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("dilated convolution", ("dil",), "#c2570c"),
    ("pooling", ("pool",), "#0a7f5c"),
    ("skip connection", ("skip", "identity"), "#6b7280"),
    ("convolution", ("conv",), "#1f5fa8"),
    ("other operation", ("",), "#9d3c83"),
)
"""Kinds of operations: name, parts of operation names (the first match counts), colour."""

# All lengths are in points. On a panel one unit of data is one point.
FONT = "DejaVu Sans"
LABEL, HEADING = 9.0, 11.0  # text sizes
ARROW = 5.0  # length of an arrow head
INK, PALE, SHADE = "#1f2937", "#aab1bd", "#eef1f5"


def kind_of(operation: str) -> tuple[str, str]:
    """Return the kind of an operation and its colour.

    Examples
    --------
    >>> kind_of("dil_conv_5x5")[0]
    'dilated convolution'
    """
    return next(
        (name, color) for name, words, color in KINDS if any(word in operation for word in words)
    )


def text_width(text: str, size: float = LABEL) -> float:
    """Return the width of a text."""
    if not text:
        return 0.0
    path = TextPath((0.0, 0.0), text, size=size, prop=FontProperties(family=FONT))
    return float(path.get_extents().width)


def draw_arrow(
    axes: Axes, vertices: list[tuple[float, float]], codes: str, *, color: str, width: float
) -> Patch:
    """Draw a path with an arrow head at its end.

    Parameters
    ----------
    axes
        Axes to draw on.
    vertices
        Points of the path, including control points.
    codes
        One letter per vertex: M (move), L (line), Q (quadratic curve) or C (cubic curve).
    color, width
        Of the line.
    """
    numbers = {"M": Outline.MOVETO, "L": Outline.LINETO, "Q": Outline.CURVE3, "C": Outline.CURVE4}
    (x0, y0), (x, y) = vertices[-2:]
    length, half = math.dist((x0, y0), (x, y)), 1.4 + 0.6 * width
    dx, dy = (x - x0) / length, (y - y0) / length
    back = (x - ARROW * dx, y - ARROW * dy)
    sides = [(back[0] - s * half * dy, back[1] + s * half * dx) for s in (1, -1)]
    outline = Outline([*vertices[:-1], back], [numbers[code] for code in codes])
    patch = PathPatch(outline, fill=False, edgecolor=color, linewidth=width, zorder=2.0)
    axes.add_patch(patch)
    axes.add_patch(Polygon([(x, y), *sides], facecolor=color, linewidth=0, zorder=2.5))
    return patch


def draw_box(
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
    """Draw a rounded box with a text at its centre; ``half`` is half its width and height."""
    corner = (center[0] - half[0], center[1] - half[1])
    style = f"round,pad=0,rounding_size={min(*half, 8.0)}"
    box = FancyBboxPatch(corner, 2 * half[0], 2 * half[1], boxstyle=style, zorder=3.0)
    box.set(facecolor=fill, edgecolor=color, linewidth=border, linestyle=line)
    axes.add_patch(box)
    font = {"size": LABEL, "color": color, "family": FONT, "math_fontfamily": "dejavusans"}
    axes.text(*center, text, font, ha="center", va="center_baseline", zorder=4.0)
