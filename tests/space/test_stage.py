"""What a stage of a search reports to NNI."""

from __future__ import annotations

import pytest

from nni_robust.space import STAGES, reported, robust_accuracy


@pytest.mark.parametrize("stage", STAGES)
def test_only_candidates_report_the_metric_that_nni_ranks_by(stage):
    metrics = {"default": 0.5, "clean": 0.8, "fsp": 0.1}
    report = reported(stage, metrics)
    assert ("default" in report) == (stage == "candidate")
    assert robust_accuracy(report) == 0.5
    assert report.items() >= {"clean": 0.8, "fsp": 0.1}.items()
    assert metrics == {"default": 0.5, "clean": 0.8, "fsp": 0.1}
