"""Reports of an evaluation: its table, its entry for RobustBench, and plots of sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nni_robust.check import SettingError
from nni_robust.record import Record
from nni_robust.report.figure import save_figure
from nni_robust.report.text_table import percent, text_table

_LABELS = {"epsilon": "epsilon", "steps": "steps of PGD"}


def epsilon_text(threat_model: Mapping[str, Any]) -> str:
    """Return a perturbation budget as text, in units of 1/255 for the l_inf norm.

    Parameters
    ----------
    threat_model
        ``norm`` and ``epsilon``.

    Examples
    --------
    >>> epsilon_text({"norm": "linf", "epsilon": 8 / 255})
    '8/255'
    """
    epsilon = threat_model["epsilon"]
    return f"{epsilon * 255:.6g}/255" if threat_model["norm"] == "linf" else f"{epsilon:.6g}"


def accuracy_table(record: Record) -> str:
    """Return an evaluation as a table with one line per attack.

    Parameters
    ----------
    record
        A record of the stage ``evaluation``.

    Returns
    -------
    str
        If each attack was run only on images that withstood the attacks before it, the accuracy in
        its line is that under all attacks so far.
    """
    robustness, settings = record.details["robustness"], record.settings
    threat_model = settings["threat_model"]
    title = (
        f"{settings['label']}: {robustness['num_images']} {settings['split']} images of "
        f"{settings['data']['name']}, {threat_model['norm']} {epsilon_text(threat_model)}, "
        f"seed {record.seed}"
    )
    accuracy = "accuracy" if settings["keep_fooled"] else "so far"
    confidence = f"{100 * robustness['confidence']:g} % interval"
    rows = [["", "attacked", "fooled", accuracy, confidence]]
    for name, right in robustness["right"].items():
        low, high = (100 * bound for bound in robustness["wilson"][name])
        if name == "robust":
            label, attacked, fooled = "worst of suite", "", robustness["num_images"] - right
        else:
            label, attacked = name, robustness["asked"][name]
            fooled = attacked - right
        share = percent(robustness["accuracy"][name])
        rows.append([label, str(attacked), str(fooled), share, f"{low:.2f} to {high:.2f} %"])
    return "\n".join([title, text_table(rows, right=range(1, 5), min_widths={0: 16})])


def robustbench_entry(record: Record) -> dict[str, Any]:
    """Return an evaluation under AutoAttack in the form of RobustBench's ``model_info``.

    Parameters
    ----------
    record
        A record of the stage ``evaluation``, under all of AutoAttack and on all test images.

    Returns
    -------
    dict
        Values that an evaluation does not know are empty, and ``additional_data`` is None. Fill
        them in.
    """
    settings = record.settings
    return {
        "link": "",
        "name": "",
        "authors": "",
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": settings["data"]["name"],
        "venue": "",
        "architecture": settings["label"],
        "eps": epsilon_text(settings["threat_model"]),
        "clean_acc": f"{100 * record.metrics['clean']:.2f}",
        "reported": "",
        "autoattack_acc": f"{100 * record.metrics['default']:.2f}",
    }


def draw_sweep(records: Sequence[Record], axis: str) -> Figure:
    """Plot robust accuracy over the strength of PGD.

    Parameters
    ----------
    records
        One per point, with the metrics ``axis`` and ``default``, and the interval in its details.
    axis
        ``epsilon`` or ``steps``.

    Returns
    -------
    matplotlib.figure.Figure
        It shows the interval of every point. The axis of steps is logarithmic.
    """
    if not records:
        raise SettingError("must contain at least one point, got none.", "records")
    threat_model = records[0].settings["threat_model"]
    unit = 255 if axis == "epsilon" and threat_model["norm"] == "linf" else 1
    points = sorted(records, key=lambda record: record.metrics[axis])
    places = [unit * record.metrics[axis] for record in points]
    accuracies = [100 * record.metrics["default"] for record in points]
    bounds = [record.details["robustness"]["wilson"]["robust"] for record in points]
    below = [a - 100 * low for a, (low, _) in zip(accuracies, bounds, strict=True)]
    above = [100 * high - a for a, (_, high) in zip(accuracies, bounds, strict=True)]

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    # At 0 and 100 % rounding can make a length negative.
    lengths = [[max(0.0, length) for length in side] for side in (below, above)]
    axes.errorbar(places, accuracies, yerr=lengths, marker="o", markersize=4, capsize=3)
    if axis == "steps":
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
    axes.set_xlabel(_LABELS[axis] + (" x 255" if unit == 255 else ""))
    axes.set_ylabel("robust accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(records[0].settings["label"])
    axes.grid(alpha=0.3)
    return figure


def save_sweep(path: Path, records: Sequence[Record], axis: str) -> tuple[Path, Path]:
    """Plot a sweep to an SVG and a PNG file. The same records give the same bytes.

    Parameters
    ----------
    path
        The files without their suffix. Missing folders are created.
    records, axis
        Arguments of :func:`draw_sweep`.

    Returns
    -------
    svg, png
        The files written.
    """
    return save_figure(path, lambda: draw_sweep(records, axis))
