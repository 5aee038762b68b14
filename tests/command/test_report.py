"""The command `report`: tables of the papers and rankings of searches, from records."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from nni_robust.__main__ import main
from nni_robust.command.report import report
from nni_robust.record import Record
from nni_robust.report import published
from nni_robust.results.tags import tagged_records


def leave(
    folder: Path, row: dict[str, Any], *, stage="final", error=None, images=100, time="1", **metrics
):
    """Write what a trial leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    Record(
        sample={},
        stage=stage,
        metrics=metrics,
        seed=row["seed"],
        tags={name: value for name, value in row.items() if name != "seed"},
        error=error,
        time=time,
        settings={"evaluator": {"data": {"name": "digits"}}},
        details={"num_images": images},
    ).append(folder / "records.jsonl")


def resnet(seed=0, scale="full", table="r-tab1", row="ResNet-18"):
    tags = {"table": table, "row": row, "seed": seed}
    return tags if scale == "full" else {**tags, "scale": scale}


@pytest.fixture
def results(tmp_path) -> Path:
    leave(tmp_path / "e1" / "a", resnet(0), num_parameters=11_174_000, clean=0.80, pgd20=0.50)
    leave(tmp_path / "e1" / "b", resnet(1), num_parameters=11_174_000, clean=0.82, pgd20=0.46)
    leave(tmp_path / "e2" / "c", resnet(0, "small"), num_parameters=100_000, clean=0.30, pgd20=0.20)
    leave(tmp_path / "e2" / "d", resnet(0, row="My own"), clean=0.9, pgd20=0.1)
    return tmp_path


def entries(folder: Path, table: str = "r-tab1") -> dict[tuple[str, str | None, str], dict]:
    found = json.loads(report([folder], table, "json"))
    return {(entry["row"], entry["scale"], entry["metric"]): entry for entry in found}


def test_published_and_own_figures_have_separate_columns(results):
    text = report([results], "r-tab1", "text").split("\n")
    assert text[0] == "[RobNets] Table 1: CIFAR-10, white box, linf 8/255"
    heads = text[2].split()
    assert heads == ["row", "scale", "seeds", *["paper", "ours"] * 3]
    lines = [" ".join(line.split()) for line in text]
    # Standard deviations of 80 and 82, and of 50 and 46.
    assert "ResNet-18 full 2 11.17 11.174 78.38 81.00 +- 1.41 - -" in lines
    assert "ResNet-18 full 2 45.60 48.00 +- 2.83 - - - -" in lines
    assert "ResNet-18 small: digits 1 45.60 20.00 - - - -" in lines
    for interval in ("[72.2, 87.5]", "[38.5, 57.7]", "[13.3, 28.9]"):
        assert interval in lines


def test_a_wide_table_is_divided_into_blocks_that_fit_the_terminal(results):
    text = report([results], "r-tab1", "text")
    assert max(map(len, text.split("\n"))) <= 100
    blocks = text.split("\n\n")
    assert len(blocks) == 3
    assert all("RobNet-free" in block for block in blocks)


def test_scales_are_not_mixed_and_seeds_are_counted(results):
    found = entries(results)
    full, small = found["ResNet-18", "full", "clean"], found["ResNet-18", "small: digits", "clean"]
    assert (full["seeds"], full["ours"], full["paper"]) == ([0, 1], 81.0, 78.38)
    assert (small["seeds"], small["ours"], small["spread"]) == ([0], 30.0, None)


def test_the_interval_of_an_accuracy_is_that_of_wilson(results):
    entry = entries(results)["ResNet-18", "small: digits", "pgd20"]
    z, n, p = 1.959964, 100, 0.2
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert entry["low"] == pytest.approx(100 * (middle - half) / (1 + z**2 / n), abs=1e-3)
    assert entry["high"] == pytest.approx(100 * (middle + half) / (1 + z**2 / n), abs=1e-3)


def test_an_unknown_figure_is_a_dash(results):
    found = entries(results)
    assert found["ResNet-18", "full", "fgsm"]["paper"] is None
    assert found["ResNet-18", "full", "fgsm"]["ours"] is None
    assert found["RobNet-medium", None, "pgd20"]["paper"] == 49.13
    text = report([results], None, "text")
    assert next(line for line in text.split("\n") if line.startswith("ResNet-50")).split() == [
        *["ResNet-50", "-", "-", "23.52"],
        *["-"] * 5,
    ]


def test_rows_are_in_the_order_of_the_table_and_new_ones_last(results):
    first = report([results], None, "text").split("\n\n")[0].split("\n")[3:]
    rows = [line.split("  ")[0] for line in first if not line.startswith(" ")]
    known = list(published.TABLES["r-tab1"].rows)
    assert rows == [known[0], *known, "My own"]


def test_failed_and_unfinished_trials_do_not_count(tmp_path):
    leave(tmp_path / "a", resnet(0), clean=0.5)
    leave(tmp_path / "b", resnet(1), error="ValueError: no", clean=0.1)
    leave(tmp_path / "c", resnet(2), stage="train", clean=0.2)
    assert entries(tmp_path)["ResNet-18", "full", "clean"]["seeds"] == [0]


def test_the_later_of_two_results_of_a_row_counts(tmp_path):
    leave(tmp_path / "b", resnet(0), clean=0.5, time="2026-01-01")
    leave(tmp_path / "a", resnet(0), clean=0.6, time="2026-01-02")
    assert entries(tmp_path)["ResNet-18", "full", "clean"]["ours"] == 60.0


def test_a_table_takes_the_rows_that_it_shares_with_another(results):
    found = entries(results, "r-tab7")
    assert found["ResNet-18", "full", "clean"]["seeds"] == [0, 1]
    assert not [row for row, _, _ in found if row == "My own"]


def test_csv_has_one_line_per_row_and_metric(results):
    lines = list(csv.DictReader(io.StringIO(report([results], "r-tab1", "csv"))))
    line = next(x for x in lines if (x["row"], x["metric"]) == ("ResNet-18", "pgd20"))
    assert (line["scale"], line["seeds"], line["paper"], line["ours"]) == (
        *("full", "0 1"),
        *("45.6", "48.0"),
    )
    assert lines[-1]["paper"] == ""


def test_published_figures_are_percentages_of_known_columns():
    for name, table in published.TABLES.items():
        for row, figures in table.rows.items():
            assert set(figures) <= set(table.columns), (name, row)
            assert all(0 < float(figure) <= 100 for figure in figures.values()), (name, row)


def test_the_command_line_prints_writes_and_draws(results, tmp_path, capsys):
    assert main(["report", str(results)]) == 0
    assert "[RobNets] Table 1" in capsys.readouterr().out
    file = tmp_path / "new" / "table.json"
    assert main(["report", str(results), "--format", "json", "--output", str(file)]) == 0
    assert json.loads(file.read_text())[0]["table"] == "r-tab1"
    leave(results / "e3", resnet(0, row="WRN-28-10"), num_parameters=36_500_000, pgd100=0.4)
    for name, command in (("p", ["report", "--plot"]), ("q", ["plot"])):
        output = ["--output", str(tmp_path / "new" / name)]  # the folder is created
        assert main([command[0], *command[1:], "size", str(results), *output]) == 0
        assert (tmp_path / "new" / f"{name}.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}", "--table", "r-tab9"], "--table must be one of ['r-tab1',"),
        (["{}"], "DIR must hold results, but no search or training below"),
        (["{}/nowhere"], "DIR must be a folder of results, got"),
        (["{}", "--plot", "pie"], "plot must be one of ['density',"),
        (["{}", "--plot", "fsp"], "records must contain screened networks"),
    ],
    ids=str,
)
def test_wrong_input_is_one_line(tmp_path, capsys, arguments, message):
    assert main(["report", *(argument.format(tmp_path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "note",
    [
        '{"table": ["x"], "row": "r", "scale": "full"}',
        '{"table": 3, "row": "r", "scale": "full"}',
        '{"table": "r-tab1"}',
        "[]",
        "{",
    ],
)
def test_a_damaged_note_of_earlier_results_is_named(tmp_path, note):
    leave(tmp_path, {"seed": 0}, clean=0.5)
    (tmp_path / "row.json").write_text(note)
    with pytest.raises(
        ValueError, match=r"row\.json' must name a row of a table, but it is damaged"
    ):
        tagged_records(tmp_path)


SUITE = [{"name": "fgsm"}, {"name": "pgd", "steps": 20}]


def candidate(code: str, worst: float, **changed):
    """Write what a search records of one candidate."""
    fields = {"stage": "candidate", "error": None, "details": {}, **changed}
    return Record(
        sample={"cell/0": code},
        genotype=[code],
        metrics={
            "clean": 0.9,
            "fgsm": worst + 0.1,
            "pgd20": worst,
            "default": worst,
            "num_parameters": 1_500_000,
        },
        seed=0,
        settings={"evaluator": {"test_attacks": SUITE}},
        **fields,
    )


def test_the_candidates_of_a_search_are_ranked_by_validation_accuracy(tmp_path):
    path = tmp_path / "records.jsonl"
    for code, worst in (("01", 0.3), ("11", 0.5), ("10", 0.4)):
        candidate(code, worst).append(path)
    candidate("11", 0.0, error="ValueError: no").append(path)
    candidate("11", 0.45, stage="final", details={"num_images": 200}).append(path)
    text = report([tmp_path], None, "text")
    assert text.startswith("3 candidates, ranked by validation accuracy (worst attack")
    rows = [line.split() for line in text.split("\n")[2:5]]
    assert [row[0] for row in rows] == ["1*", "2", "3"]
    assert [row[2] for row in rows] == ["11", "10", "01"]
    assert rows[0][3:] == ["1,500,000", "90.00", "%", "60.00", "%", "50.00", "%", "50.00", "%"]
    # The chosen network: validation beside 200 test images, with Wilson's interval of 90 of 200.
    assert "worst of suite            50.00 %         45.00 % (38.26 to 51.92)" in text
    assert f"Records     {path}" in text
    assert max(map(len, text.split("\n"))) <= 100


def test_a_ranking_is_text(tmp_path, capsys):
    candidate("01", 0.3).append(tmp_path / "records.jsonl")
    assert main(["report", str(tmp_path), "--format", "csv"]) == 2
    assert "--format must be text for a search" in capsys.readouterr().err
