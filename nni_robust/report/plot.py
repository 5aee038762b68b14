"""Plots of the papers' figures from the records of searches and trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import StatisticsError, correlation

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nni_robust.check import SettingError, check_choice
from nni_robust.record import Record
from nni_robust.report.figure import save_figure

_ROBUST = "robust accuracy (%)"
_AXES = {
    "density": "density",
    "num_convolutions": "convolutions per cell",
    "direct": "share of direct edges with a convolution",
}
_STAGES = {"screen": "inherited weights", "candidate": "fine-tuned"}


def draw_density(records: Sequence[Record]) -> Figure:
    """Plot robust accuracy against the density of RobNets: [RobNets] Fig. 5."""
    figure = _figure(5, 3.6)
    _scatter_stages(figure.add_subplot(), records, "density")
    return figure


def draw_convolutions(records: Sequence[Record]) -> Figure:
    """Plot robust accuracy against convolutions, and against direct edges with a convolution.

    This is [RobNets] Fig. 6, except that its second axis is the share of the convolutions that are
    on direct edges.
    """
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    _scatter_stages(left, records, "num_convolutions")
    _scatter_stages(right, records, "direct")
    return figure


def draw_fsp(records: Sequence[Record]) -> Figure:
    """Plot the loss of accuracy under attack against the FSP distance, one panel per cell.

    This is [RobNets] Fig. 7 and 8. Each screened network is one point in every panel.
    """
    points = [r for r in records if r.stage == "screen" and r.details.get("fsp_unit")]
    if not points:
        raise SettingError(
            "must contain screened networks with FSP distances, got none.", "records"
        )
    num_cells = {len(record.details["fsp_unit"]) for record in points}
    if len(num_cells) > 1:
        raise SettingError(
            f"must be of networks with the same depth, got {sorted(num_cells)} cells. Give the "
            "folder of one search.",
            "records",
        )
    gaps = [100 * (r.metrics["clean"] - r.metrics["default"]) for r in points]
    columns = min(5, *num_cells)
    rows = math.ceil(len(points[0].details["fsp_unit"]) / columns)
    figure = _figure(2.2 * columns, 1.9 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for cell, axes in enumerate(panels):
        if cell >= len(points[0].details["fsp_unit"]):
            axes.set_axis_off()
            continue
        distances = [record.details["fsp_unit"][cell] for record in points]
        axes.scatter(distances, gaps, s=9)
        axes.set_title(f"cell {cell}{_correlation(distances, gaps)}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=3)
        axes.ticklabel_format(axis="x", scilimits=(-1, 2))
        axes.xaxis.offsetText.set_fontsize(7)
        axes.grid(alpha=0.3)
    figure.supxlabel("FSP distance", fontsize=9)
    figure.supylabel("clean - robust accuracy (%)", fontsize=9)
    return figure


def draw_search(records: Sequence[Record]) -> Figure:
    """Plot robust accuracy before and after fine-tuning: [RobNets] Fig. 3."""
    points = [r for r in records if r.stage == "candidate" and "inherited" in r.metrics]
    if not points:
        raise SettingError(
            "must contain candidates that inherited weights and were fine-tuned, got none.",
            "records",
        )
    before = [100 * record.metrics["inherited"] for record in points]
    after = [100 * record.metrics["default"] for record in points]
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    left.scatter(before, after, s=12)
    ends = [min(*before, *after), max(*before, *after)]
    left.plot(ends, ends, color="0.6", linewidth=1)
    left.set_xlabel("inherited weights: " + _ROBUST)
    left.set_ylabel("fine-tuned: " + _ROBUST)
    left.set_title(f"{len(points)} networks{_correlation(before, after)}", fontsize=9)
    right.hist(after, bins=min(30, max(5, len(points) // 10)))
    right.axvline(sum(after) / len(after), color="0.2", linestyle="--")
    right.set_title(f"mean {sum(after) / len(after):.2f} %", fontsize=9)
    right.set_xlabel("fine-tuned: " + _ROBUST)
    right.set_ylabel("networks")
    return figure


def draw_size(records: Sequence[Record]) -> Figure:
    """Plot accuracy under PGD-100 against the parameters of trained networks: [RobNets] Fig. 1."""
    points = [
        record
        for record in records
        if record.stage == "final" and {"num_parameters", "pgd100"} <= set(record.metrics)
    ]
    if not points:
        raise SettingError(
            "must contain trainings that were tested by PGD-100, got none.", "records"
        )
    figure = _figure(5, 3.6)
    axes = figure.add_subplot()
    for record in points:
        place = (record.metrics["num_parameters"] / 1e6, 100 * record.metrics["pgd100"])
        axes.scatter(*place, s=18, color="C0")
        name = record.settings.get("network", {}).get("name", "")
        axes.annotate(name, place, (3, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel("accuracy under PGD-100 (%)")
    axes.grid(alpha=0.3)
    return figure


PLOTS: dict[str, Callable[[Sequence[Record]], Figure]] = {
    "density": draw_density,
    "convolutions": draw_convolutions,
    "fsp": draw_fsp,
    "search": draw_search,
    "size": draw_size,
}
"""Functions that draw the figures, by name."""


def save_plot(path: Path, records: Sequence[Record], name: str) -> tuple[Path, Path]:
    """Draw a figure to an SVG and a PNG file. The same records give the same bytes.

    Parameters
    ----------
    path
        The files without their suffix. Missing folders are created.
    records
        All records; a figure selects those that it shows.
    name
        One of :data:`PLOTS`.

    Returns
    -------
    svg, png
        The files written.
    """
    check_choice("plot", name, list(PLOTS))
    return save_figure(path, lambda: PLOTS[name](records))


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _scatter_stages(axes: Axes, records: Sequence[Record], metric: str) -> None:
    """Plot robust accuracy against a metric, with one colour per stage."""
    titles = []
    for stage, label in _STAGES.items():
        points = [r.metrics for r in records if r.stage == stage and metric in r.metrics]
        if not points:
            continue
        x = [m[metric] for m in points]
        y = [100 * m["default"] for m in points]
        axes.scatter(x, y, s=12, label=label)
        titles.append(f"{len(points)} {label}{_correlation(x, y)}")
    if not titles:
        raise SettingError(
            f"must contain screened networks or candidates with {metric!r}, got none.", "records"
        )
    axes.set_title("\n".join(titles), fontsize=9)
    axes.set_xlabel(_AXES[metric])
    axes.set_ylabel(_ROBUST)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def _correlation(x: Sequence[float], y: Sequence[float]) -> str:
    try:
        return f", r = {correlation(x, y):.2f}"
    except StatisticsError:  # only one point, or all values are equal
        return ""
