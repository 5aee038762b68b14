"""The command `verify`: accuracies measured again, and compared with the record."""

from __future__ import annotations

import json

import pytest

from nni_robust.__main__ import main
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.build import conditions_of
from nni_robust.results.chosen import load_chosen, read_chosen

pytestmark = pytest.mark.filterwarnings("ignore:.*is found to be not a nn.Module")


@pytest.fixture
def folder(chosen_folder, tmp_path):
    """Record the accuracies that the network has."""
    path = chosen_folder(tmp_path)
    conditions = conditions_of(read_chosen(path))
    x, y = conditions.data.examples("test")
    found = attacked_accuracy(load_chosen(path), x, y, attacks=conditions.test_attacks)
    found["default"] = found.pop("robust")
    record(path, **found)
    return path


def record(folder, **metrics):
    content = json.loads((folder / "genotype.json").read_text())
    content["metrics"] |= metrics
    (folder / "genotype.json").write_text(json.dumps(content))


def test_the_same_accuracies_are_a_success(folder, tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Network     0123456789, 100,000 parameters" in out
    assert "accuracy        60 test images  on record" in out
    assert out.endswith("The accuracies are those on record.\n")


def test_another_accuracy_is_a_failure(folder, capsys):
    record(folder, clean=0.9999)
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "99.99 %" in out
    assert out.endswith("The accuracies differ from those on record.\n")


@pytest.mark.parametrize("place", ["nowhere", ""])
def test_only_a_folder_of_results_can_be_verified(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", place]) == 2
    error = capsys.readouterr().err
    assert f"DIR must be a folder of results, got {place!r}" in error
    assert error.count("\n") == 1
