"""Evaluations and sweeps written by hand: their table, entry for RobustBench and plot."""

from __future__ import annotations

import pytest

from nni_robust.record import Record
from nni_robust.report.robustness import (
    accuracy_table,
    draw_sweep,
    epsilon_text,
    robustbench_entry,
    save_sweep,
)


def record(metrics, **details):
    settings = {
        "label": "net",
        "split": "test",
        "keep_fooled": False,
        "data": {"name": "cifar10"},
        "threat_model": {"norm": "linf", "epsilon": 8 / 255},
    }
    return Record(
        sample={}, stage="evaluation", metrics=metrics, seed=7, settings=settings, details=details
    )


EVALUATION = record(
    {"default": 0.25, "clean": 0.75, "fgsm": 0.25},
    robustness={
        "num_images": 4,
        "confidence": 0.95,
        "asked": {"clean": 4, "fgsm": 3},
        "right": {"clean": 3, "fgsm": 1, "robust": 1},
        "accuracy": {"clean": 0.75, "fgsm": 0.25, "robust": 0.25},
        "wilson": {"clean": [0.3, 0.95], "fgsm": [0.04, 0.7], "robust": [0.04, 0.7]},
    },
)


def test_the_table_has_one_line_per_attack():
    assert accuracy_table(EVALUATION).split("\n") == [
        "net: 4 test images of cifar10, linf 8/255, seed 7",
        "                  attacked  fooled   so far     95 % interval",
        "clean                    4       1  75.00 %  30.00 to 95.00 %",
        "fgsm                     3       2  25.00 %   4.00 to 70.00 %",
        "worst of suite                   3  25.00 %   4.00 to 70.00 %",
    ]


def test_the_entry_contains_percentages_as_text():
    entry = robustbench_entry(EVALUATION)
    assert (entry["clean_acc"], entry["autoattack_acc"]) == ("75.00", "25.00")
    assert (entry["eps"], entry["dataset"], entry["architecture"]) == ("8/255", "cifar10", "net")
    assert entry["additional_data"] is None


@pytest.mark.parametrize(
    ("norm", "epsilon", "text"),
    [("linf", 8 / 255, "8/255"), ("linf", 0.031, "7.905/255"), ("l2", 0.5, "0.5")],
)
def test_an_linf_budget_is_written_in_units_of_1_255(norm, epsilon, text):
    assert epsilon_text({"norm": norm, "epsilon": epsilon}) == text


def sweep(axis, values, accuracies):
    return [
        record(
            {axis: value, "default": accuracy},
            robustness={"wilson": {"robust": [max(0, accuracy - 0.1), min(1, accuracy + 0.1)]}},
        )
        for value, accuracy in zip(values, accuracies, strict=True)
    ]


def test_a_sweep_is_plotted_in_order_and_in_percent():
    records = sweep("epsilon", [8 / 255, 0.0, 4 / 255], [0.2, 1.0, 0.5])
    (axes,) = draw_sweep(records, "epsilon").axes
    line = axes.get_lines()[0]
    assert list(line.get_xdata()) == pytest.approx([0, 4, 8])
    assert list(line.get_ydata()) == pytest.approx([100, 50, 20])
    assert axes.get_xlabel() == "epsilon x 255"
    assert axes.get_ylim() == (0, 100)


def test_the_same_sweep_gives_the_same_bytes(tmp_path):
    records = sweep("steps", [1, 10, 100], [0.6, 0.5, 0.0])
    first, second = (save_sweep(tmp_path / name, records, "steps") for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_an_empty_sweep_is_refused():
    with pytest.raises(ValueError, match="records must contain at least one point"):
        draw_sweep([], "steps")
