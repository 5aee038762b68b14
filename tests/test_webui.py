from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from nnictl import running_experiment
from webui import (
    browser,
    lines_are_drawn,
    open_page,
    parallel_axes,
    screenshot,
    trial_parameters,
    trial_rows,
)

from nni_robust.manager.client import Client
from nni_robust.manager.experiments import ExperimentEntry
from nni_robust.manager.follow import follow

pytestmark = [pytest.mark.slow, pytest.mark.browser]

OPERATIONS = ["none", "conv", "identity", "conv+identity"]

TRIAL = """
import nni
parameters = nni.get_next_parameter()
for step in range(3):
    nni.report_intermediate_result({"default": step / 10, "clean": 0.5})
if parameters["edge_0_2"] == "none":
    raise ValueError("an edge without operation")
nni.report_final_result({"default": parameters["width"] / 100, "clean": parameters["width"] / 50})
"""


def config(folder: Path) -> dict[str, Any]:
    """Return settings of a full grid: every operation with every width; a quarter of them fail."""
    (folder / "trial.py").write_text(TRIAL)
    widths = list(range(1, 9))
    return {
        "experimentName": "toy",
        "searchSpace": {
            "edge_0_2": {"_type": "choice", "_value": OPERATIONS},
            "width": {"_type": "choice", "_value": widths},
        },
        "trialCommand": "python3 trial.py",
        "trialCodeDirectory": ".",
        "trialConcurrency": 4,
        "maxTrialNumber": len(OPERATIONS) * len(widths),
        "tuner": {"name": "GridSearch"},
        "trainingService": {"platform": "local"},
    }


def test_the_page_shows_what_the_manager_tells(tmp_path):
    with running_experiment(config(tmp_path), tmp_path) as (_, experiment_id, port):
        experiment = ExperimentEntry(experiment_id, "toy", port, "", tmp_path)
        assert follow(experiment, timeout=300).status == "DONE"
        client = Client(experiment.address)
        told = {trial.id: trial for trial in client.trials()}
        noted = {id: (client.record(id) or {}).get("parameters") for id in told}
        with browser() as page:
            open_page(page, port, "overview")
            screenshot(page, tmp_path / "overview.png")
            assert experiment_id in page.inner_text("body")
            assert "DONE" in page.inner_text("body")

            open_page(page, port, "detail")
            rows = trial_rows(page)
            assert [row["ID"] for row in rows] == list(told)
            assert [row["Trial No."] for row in rows] == [str(n) for n in range(32)]
            assert [row["Status"] for row in rows] == [trial.status for trial in told.values()]
            assert Counter(row["Status"] for row in rows) == {"SUCCEEDED": 24, "FAILED": 8}

            for row in rows[-3:]:
                trial = told[row["ID"]]
                # The page shows what NNI noted for a trial; of trials that start together, one may
                # run the parameters noted for another.
                assert trial_parameters(page, row["ID"]) == noted[row["ID"]]
                assert row["Default metric"] == f"{trial.default} (FINAL)"

            axes = parallel_axes(page)
            assert list(axes) == ["edge_0_2", "width", "default", "clean"]
            assert axes["edge_0_2"] == OPERATIONS
            assert lines_are_drawn(page)
            screenshot(page, tmp_path / "detail.png")
            assert (tmp_path / "detail.png").read_bytes().startswith(b"\x89PNG")
