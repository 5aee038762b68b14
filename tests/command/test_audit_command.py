"""The command `audit`: networks audited, shown and recorded."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from torch import nn

from nni_robust.__main__ import main
from nni_robust.audit.audit import CHECKS
from nni_robust.record import Record, read_records
from nni_robust.report.audit import audit_table

pytestmark = pytest.mark.filterwarnings("ignore:.*is found to be not a nn.Module")


class Linear(nn.Module):
    """A network whose gradient is exact everywhere."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(x.flatten(1))


class Rounded(Linear):
    """The same network behind a layer that hides its gradient."""

    def forward(self, x):
        return super().forward(x.mul(8).round().div(8))


@pytest.fixture(scope="module")
def weights(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("linear") / "weights.pt"
    torch.save(fitted(Linear).state_dict(), path)
    return str(path)


def run(what, *arguments):
    options = ["--data", "digits", "--device", "cpu", "--num-images", "60", "--queries", "200"]
    return main(["audit", f"{__name__}:{what}", *options, *arguments])


def test_an_honest_network_is_shown_recorded_and_passes(weights, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    assert run("Linear", "--weights", weights, "--epsilon", "8/255", "--output", str(output)) == 0
    (record,) = read_records(output / "records.jsonl")
    assert record.stage == "audit"
    audit = record.details["audit"]
    assert audit["verdict"] == "pass"
    assert [check["name"] for check in audit["checks"]] == [*CHECKS]
    assert record.metrics["clean"] == audit["clean_accuracy"] > 0.8
    assert record.metrics["default"] == audit["robust_accuracy"] <= record.metrics["clean"]
    assert record.settings["queries"] == 200
    assert record.settings["data"]["name"] == "digits"
    assert "pyautoattack" in record.versions
    table = capsys.readouterr().out
    assert table == f"{audit_table(record)}\n"
    assert "Linear: 60 test images of digits, linf 8/255, steps of 2/255, seed 0" in table
    assert max(len(line) for line in table.splitlines()) <= 100


def test_a_network_that_hides_its_gradient_fails(weights, capsys):
    assert run("Rounded", "--weights", weights, "--epsilon", "16/255") == 1
    out = capsys.readouterr().out
    for name in ("gradients", "budgets", "transfer"):
        assert re.search(rf"^fail +{name}", out, re.MULTILINE)


def test_images_attacked_on_a_surrogate_are_tried(weights, tmp_path, capsys):
    surrogate = ["--surrogate", f"{__name__}:Linear", "--surrogate-weights", weights]
    output = ["--output", str(tmp_path)]
    assert run("Rounded", "--weights", weights, *surrogate, *output, "--epsilon", "16/255") == 1
    (record,) = read_records(tmp_path / "records.jsonl")
    assert record.settings["surrogate"] == {"name": f"{__name__}:Linear"}
    (transfer,) = (c for c in record.details["audit"]["checks"] if c["name"] == "transfer")
    assert transfer["verdict"] == "fail"


def test_a_chosen_network_is_audited_under_its_own_threat_model(chosen_folder, tmp_path, capsys):
    folder = chosen_folder(tmp_path)
    # Untrained, it classifies no more right than chance, if as many as an attack needs.
    options = ["--num-images", "24", "--queries", "20", "--surrogate", str(folder)]
    status = main(["audit", str(folder), *options, "--output", str(tmp_path / "o")])
    (record,) = read_records(tmp_path / "o" / "records.jsonl")
    assert status == (record.details["audit"]["verdict"] == "fail")
    assert record.genotype == ["11" * 14]
    assert record.settings["threat_model"] == {"norm": "linf", "epsilon": 0.05}
    assert "linf 12.75/255, steps of 3.1875/255" in capsys.readouterr().out


def test_a_surrogate_is_one_network(chosen_folder, tmp_path, capsys):
    folder = chosen_folder(tmp_path)
    shutil.copytree(folder, folder.with_name("another"))
    assert main(["audit", str(folder), "--surrogate", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "--surrogate must be one network, but there are 2" in error
    assert error.count("\n") == 1


def test_numbers_are_written_as_counts_and_shares():
    check = {"name": "steps", "verdict": "warn", "meaning": "Look."}
    measured = {"pgd20": 0.5, "alone": 3, "between passes": None, "pgd100": 1.0}
    record = Record(
        sample={},
        stage="audit",
        metrics={},
        seed=7,
        settings={
            **{"label": "net", "split": "test", "data": {"name": "digits"}},
            **{"threat_model": {"norm": "l2", "epsilon": 0.5}, "step_size": 0.125},
        },
        details={
            "audit": {
                **{"num_images": 40, "clean_accuracy": 0.9, "robust_accuracy": 0.25},
                "checks": [{**check, "measured": measured}],
            }
        },
    )
    assert audit_table(record).splitlines() == [
        "net: 40 test images of digits, l2 0.5, steps of 0.125, seed 7",
        "90.00 % are classified correctly, 25.00 % under all attacks together",
        "warn     steps       pgd20 50.00 %, alone 3, between passes NaN, pgd100 100.00 %",
        "                     Look.",
    ]
    json.dumps(record.details)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "network must be a folder of results, package.module:Class or one of"),
        ([f"{__name__}:Linear", "--epsilon", "0"], "threat_model must have a radius above 0"),
        ([f"{__name__}:Linear", "--epsilon", "8"], "threat_model.epsilon must lie in"),
        (
            [f"{__name__}:Linear", "--num-images", "0"],
            "--num-images must be a whole number",
        ),
        (
            [f"{__name__}:Linear", "--queries", "0"],
            "--queries must be a whole number of at least",
        ),
        ([f"{__name__}:Linear", "--device", "abacus"], "--device must be auto or a device"),
        ([f"{__name__}:Linear", "--surrogate", "nothing"], "network must be a folder of results"),
        (
            [f"{__name__}:Linear", "--surrogate-weights", "w.pt"],
            "--surrogate-weights must come with --surrogate",
        ),
        (
            [f"{__name__}:Linear", "--surrogate", ".", "--surrogate-weights", "w.pt"],
            "--surrogate-weights must be left out: a folder of results has its own",
        ),
        ([f"{__name__}:Linear", "--surrogate", "."], "must hold a chosen network"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *arguments, "--data", "digits", "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()
