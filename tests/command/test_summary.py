"""The summaries at the end of commands, from records written by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from nni_robust.__main__ import main
from nni_robust.command.summary import evaluation_summary, results_summary
from nni_robust.record import Record

SUITE = [{"name": "fgsm"}, {"name": "pgd", "steps": 20}]

SIZE = 701_178


def leave(folder: Path, stage: str, *, name="resnet18", num_images=None, **metrics: float):
    """Write what a training leaves behind."""
    (folder / "final" / name).mkdir(parents=True, exist_ok=True)
    (folder / "final" / name / "weights.pt").touch()
    Record(
        sample={},
        stage=stage,
        metrics={"default": 0.5, "clean": 0.9, "fgsm": 0.6, "pgd20": 0.5, "best": 0.7, **metrics},
        seed=0,
        settings={"network": {"name": name, "size": 0.25}, "evaluator": {"test_attacks": SUITE}},
        details={} if num_images is None else {"num_images": num_images},
    ).append(folder / "records.jsonl")


def test_a_training_is_summed_up_for_a_newcomer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leave(
        Path("trained"), "final", num_images=200, num_parameters=701_178, default=0.45, pgd20=0.45
    )
    leave(Path("trained"), "train", num_parameters=SIZE)
    # Wilson's intervals of 180, 120, 90 and 90 of 200.
    assert results_summary(Path("trained")).split("\n") == [
        "Network     resnet18 (size: 0.25), 701,178 parameters",
        "",
        "accuracy        validation images  200 test images (95 % interval)",
        "clean                     90.00 %         90.00 % (85.06 to 93.43)",
        "fgsm                      60.00 %         60.00 % (53.08 to 66.54)",
        "pgd20                     50.00 %         45.00 % (38.26 to 51.92)",
        "worst of suite            50.00 %         45.00 % (38.26 to 51.92)",
        "",
        "Weights     trained/final/resnet18/weights.pt",
        "Records     trained/records.jsonl",
        "Next        nni-robust evaluate trained --tier full   # AutoAttack, before a claim",
        "            nni-robust audit trained                  # is its gradient masked?",
    ]


def test_several_networks_are_summed_up_in_one_line_each(tmp_path):
    leave(tmp_path / "a", "final", num_images=200, num_parameters=1_000_000)
    leave(tmp_path / "b", "final", num_images=200, num_parameters=2_000_000)
    lines = results_summary(tmp_path).split("\n")
    assert lines[0].split() == [
        *("network", "parameters", "validation", "test:", "clean", "test:", "attacked", "images")
    ]
    assert lines[1].split()[1:] == ["1,000,000", "-", "90.00", "%", "50.00", "%", "200"]
    assert str(tmp_path / "b" / "final" / "resnet18") in lines[2]


def test_a_folder_without_a_tested_network_has_no_summary(tmp_path):
    leave(tmp_path, "train")
    assert results_summary(tmp_path) == ""


def test_an_evaluation_ends_with_the_next_command_for_the_same_network():
    given = dict.fromkeys(("weights", "data", "root", "norm", "epsilon", "output", "tier"))
    given |= {"network": "{name: resnet18}", "weights": Path("w.pt"), "data": "digits"}
    records, *steps = evaluation_summary(argparse.Namespace(**given)).split("\n")[1:]
    assert records == "Records     not saved: there is no --output"
    options = "'{name: resnet18}' --weights w.pt --data digits"
    assert [step[12:].partition("#")[0].rstrip() for step in steps] == [
        f"nni-robust evaluate {options} --tier full",
        f"nni-robust audit {options}",
    ]


@pytest.mark.parametrize("trial", [False, True])
def test_a_training_prints_its_summary_unless_it_is_a_trial(trial, tmp_path, monkeypatch, capsys):
    leave(tmp_path / "own", "final", num_images=200)
    file = tmp_path / "train.yml"
    file.write_text(yaml.safe_dump({"directory": str(tmp_path / "own")}))
    monkeypatch.setattr("nni_robust.command.job.run_job", lambda *arguments: tmp_path / "own")
    monkeypatch.setattr("nni_robust.command.job.in_trial", lambda: trial)
    assert main(["train", str(file)]) == 0
    assert ("worst of suite" in capsys.readouterr().out) == (not trial)


def test_waiting_ends_with_the_summary_of_the_experiment(tmp_path, monkeypatch, capsys):
    leave(tmp_path / "results", "final", num_images=200)
    experiment = SimpleNamespace(id="abc", port=8080, directory=tmp_path)
    results = tmp_path / "results"
    outcome = SimpleNamespace(message="experiment abc is done.", exit_status=0, results=results)
    monkeypatch.setattr("nni_robust.command.wait.find_experiment", lambda id: experiment)
    monkeypatch.setattr("nni_robust.command.wait.follow", lambda *args, timeout: outcome)
    assert main(["wait"]) == 0
    assert capsys.readouterr().out.startswith("experiment abc is done.\n\nNetwork     resnet18")
