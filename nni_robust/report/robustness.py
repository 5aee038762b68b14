"""How robust a network is: the table of an evaluation, its entry for RobustBench, and sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nni_robust.record import Record
from nni_robust.report.figure import save_figure

_LABELS = {"epsilon": "epsilon", "steps": "steps of PGD"}


def epsilon_text(threat_model: Mapping[str, Any]) -> str:
    """Write a radius as the field does, l_inf in units of 1/255.

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
    """Write an evaluation as a table, an attack a line.

    Parameters
    ----------
    record
        Of the stage ``evaluation``.

    Returns
    -------
    str
        Where fooled images have left the suite, an accuracy is that under all attacks so far.
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
    lines = [title, f"{'':<18}{'attacked':>9}{'fooled':>8}{accuracy:>10}{confidence:>20}"]
    for name, right in robustness["right"].items():
        low, high = (100 * bound for bound in robustness["wilson"][name])
        interval = f"{low:.2f} to {high:.2f} %"
        if name == "robust":
            counts = f"{'worst of suite':<18}{'':>9}{robustness['num_images'] - right:>8}"
        else:
            asked = robustness["asked"][name]
            counts = f"{name:<18}{asked:>9}{asked - right:>8}"
        lines.append(f"{counts}{100 * robustness['accuracy'][name]:>9.2f}%{interval:>20}")
    return "\n".join(lines)


def robustbench_entry(record: Record) -> dict[str, Any]:
    """Write an evaluation under AutoAttack in the form of RobustBench's ``model_info``.

    Parameters
    ----------
    record
        Of the stage ``evaluation``, under the whole of AutoAttack and on all test images.

    Returns
    -------
    dict
        What an evaluation cannot know is empty, and ``additional_data`` None: to be filled in.
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
        One a point, with the metrics ``axis`` and ``default``, and the interval in its details.
    axis
        ``epsilon`` or ``steps``.

    Returns
    -------
    Figure
        With the interval of every point; steps are spaced by their logarithm.
    """
    if not records:
        raise ValueError("records must hold at least one point, got none.")
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
    # At 0 and 100 % rounding may leave a length below 0.
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
    """Plot a sweep into two files, as SVG and as PNG; the same records give the same bytes.

    Parameters
    ----------
    path
        The files without their suffix.
    records, axis
        As for :func:`draw_sweep`.

    Returns
    -------
    svg, png
        The files written.
    """
    return save_figure(path, lambda: draw_sweep(records, axis))
