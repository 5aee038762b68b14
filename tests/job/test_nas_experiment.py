"""The Python door: NNI's own NasExperiment, with its manager."""

from __future__ import annotations

import pytest
import requests
from nni.nas.experiment import NasExperiment
from nnictl import free_port

from nni_robust.attack import PGD, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.job.base import Conditions
from nni_robust.job.measure import Screening
from nni_robust.job.staged import StagedSearch
from nni_robust.record import read_records
from nni_robust.space import STAGE, RobNetSpace
from nni_robust.strategy import RobNet


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_search_runs_as_an_experiment_of_nnis_training_service(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    attack = PGD(threat_model=ThreatModel(epsilon=0.05), steps=2, step_size=0.03)
    evaluator = StagedSearch(
        conditions=Conditions(
            data=Synthetic(num_classes=3, image_shape=(1, 8, 8), num_examples=90),
            directory=str(tmp_path / "results"),
            test_attacks=[attack],
        ),
        screening=Screening(batch_norm_batches=1, probe_networks=1),
        supernet_epochs=1,
        finetune_epochs=1,
        train_attack=attack,
    )
    strategy = RobNet(num_samples=2, num_candidates=1, num_shards=1)
    space = RobNetSpace(num_cells=1, width=4, num_classes=3, in_channels=1)
    experiment = NasExperiment(space, evaluator, strategy)
    experiment.config.max_trial_number = strategy.num_trials
    experiment.config.experiment_working_directory = str(tmp_path / "experiments")
    port = free_port()
    try:
        assert experiment.run(port=port)
        status = requests.get(f"http://localhost:{port}/api/v1/nni/check-status", timeout=20)
        assert status.json() == {"status": "DONE", "errors": []}
        (best,) = experiment.export_top_models(1, formatter="dict")
    finally:
        experiment.stop()
    assert best[STAGE] == "candidate"
    stages = [record.stage for record in read_records(tmp_path / "results" / "records.jsonl")]
    assert stages == ["screen"] * 2 + ["candidate", "final"]
