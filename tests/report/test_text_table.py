"""Text tables: alignment, widths, wrapping; and the tables of audits."""

from __future__ import annotations

from nni_robust.record import Record
from nni_robust.report.audit import audit_table
from nni_robust.report.text_table import text_table


def test_columns_are_aligned_without_borders_or_trailing_spaces():
    assert text_table([["a", "n"], ["long name", "1"]], right=[1]).split("\n") == [
        "a          n",
        "long name  1",
    ]


def test_a_narrow_column_is_widened_and_a_wide_one_wrapped():
    rows = [["a", "one two three"]]
    assert text_table(rows, min_widths={0: 3}, max_widths={1: 7}).split("\n") == [
        "a    one two",
        "     three",
    ]


def audit(*checks):
    settings = {
        **{"label": "net", "split": "test", "data": {"name": "digits"}},
        **{"threat_model": {"norm": "linf", "epsilon": 8 / 255}, "step_size": 2 / 255},
    }
    found = {"num_images": 40, "clean_accuracy": 0.9, "robust_accuracy": None, "checks": checks}
    return Record(
        sample={}, stage="audit", metrics={}, seed=0, settings=settings, details={"audit": found}
    )


def test_the_table_of_an_audit_fits_the_terminal():
    measured = {f"attack {i}": 0.5 for i in range(12)}
    check = {"name": "steps", "verdict": "warn", "meaning": "word " * 60, "measured": measured}
    lines = audit_table(audit(check)).split("\n")
    assert lines[1] == "90.00 % are classified correctly, and no attack was run"
    assert lines[2].startswith("warn     steps       attack 0 50.00 %, attack 1 50.00 %")
    assert max(map(len, lines)) <= 100
    assert " ".join(lines).count("word") == 60


def test_an_audit_without_checks_has_only_its_head():
    assert len(audit_table(audit()).split("\n")) == 2
