"""The command `evaluate`: networks under suites, interrupted, recorded and plotted."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

from nni_robust.__main__ import main
from nni_robust.attack import FGSM, PGD, ThreatModel
from nni_robust.data import Digits
from nni_robust.evaluator import attacked_accuracy
from nni_robust.evaluator.suite import TIERS
from nni_robust.model import MODELS
from nni_robust.record import read_records
from nni_robust.space import RobNetSpace

pytestmark = pytest.mark.filterwarnings("ignore:.*is found to be not a nn.Module")

SUITE = "[fgsm, {name: pgd, steps: 3, step_size: 2/255}]"
DIGITS = ["--data", "digits", "--limit", "40", "--device", "cpu"]


class Linear(nn.Sequential):
    """A user's network."""

    def __init__(self, num_classes: int, bias: bool = True) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes, bias=bias))


class Untrained(nn.Module):
    """A network for other images, without classes."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, 4, 3)

    def forward(self, x):
        return self.body(x)


class Raising(nn.Module):
    """Cannot be run."""

    def forward(self, x):
        raise KeyError("no such layer")


class Cut(Linear):
    """A network whose logits have no gradient."""

    def forward(self, x):
        return super().forward(x).detach()


def make_linear(num_classes):
    """Make a network, as a function of the user's does."""
    return Linear(num_classes)


@pytest.fixture(scope="module")
def linear(fitted):
    return fitted(Linear)


@pytest.fixture
def weights(linear, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(linear.state_dict(), path)
    return str(path)


def run(*arguments):
    return main(["evaluate", f"{__name__}:Linear", *DIGITS, *arguments])


def test_a_network_of_the_user_is_attacked_recorded_and_shown(linear, weights, tmp_path, capsys):
    output = tmp_path / "out"
    assert run("--weights", weights, "--attacks", SUITE, "--output", str(output)) == 0
    x, y = Digits().examples("test", 40)
    threat_model = ThreatModel(epsilon=8 / 255)
    attacks = [FGSM(threat_model=threat_model), PGD(threat_model=threat_model, steps=3)]
    expected = attacked_accuracy(linear, x, y, attacks=attacks, batch_size=256)
    (record,) = read_records(output / "records.jsonl")
    assert record.stage == "evaluation"
    assert record.metrics["default"] == expected["robust"]
    assert record.metrics["clean"] == expected["clean"] > 0.8
    assert record.details["robustness"]["num_images"] == 40
    assert record.settings["precision"] == "float32"
    assert record.settings["attacks"][1]["steps"] == 3
    table = capsys.readouterr().out
    assert "Linear: 40 test images of digits, linf 8/255, seed 0" in table
    low, high = record.details["robustness"]["wilson"]["robust"]
    assert f"{100 * expected['robust']:.2f} %" in table
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in table


def test_an_interrupted_evaluation_continues_to_the_same_record(weights, tmp_path, monkeypatch):
    arguments = ["--weights", weights, "--attacks", SUITE, "--batch-size", "8"]
    assert run(*arguments, "--output", str(tmp_path / "whole")) == 0
    perturb, calls = PGD._perturb, []

    def stop(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return perturb(*args)

    monkeypatch.setattr(PGD, "_perturb", stop)
    stopped = ["--output", str(tmp_path / "stopped")]
    assert run(*arguments, *stopped) == 130
    assert run(*arguments, *stopped) == 0
    assert len(calls) - 1 <= 40 / 8  # every batch once, and the one that failed again
    whole, resumed = (
        read_records(tmp_path / name / "records.jsonl")[0] for name in ("whole", "stopped")
    )
    assert resumed.details == whole.details
    assert resumed.metrics == whole.metrics


def test_evaluations_with_other_weights_or_settings_share_a_folder(linear, weights, tmp_path):
    output = tmp_path / "out"
    arguments = ["--output", str(output), "--weights", weights, "--attacks"]
    assert run(*arguments, "fgsm") == 0
    assert run(*arguments, "pgd") == 0
    assert run(*arguments, "fgsm", "--epsilon", "1/255") == 0
    torch.save(Linear(10).state_dict(), weights)
    assert run(*arguments, "fgsm") == 0
    assert len(read_records(output / "records.jsonl")) == len([*output.glob("state/*")]) == 4


def test_a_network_without_weights_is_the_same_every_time_and_this_is_said(tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    for _ in range(2):
        assert run("--attacks", "fgsm", *output) == 0
    assert "has the weights that its class draws: there are no --weights" in capsys.readouterr().err
    first, second = read_records(tmp_path / "out" / "records.jsonl")
    assert first.metrics == second.metrics


def test_a_function_that_makes_a_network_is_given_the_number_of_classes(weights, capsys):
    what = ["evaluate", f"{__name__}:make_linear", *DIGITS, "--attacks", "fgsm"]
    assert main([*what, "--weights", weights]) == 0
    assert "make_linear: 40 test images" in capsys.readouterr().out


def test_only_square_attacks_logits_without_a_gradient(weights, capsys):
    what = ["evaluate", f"{__name__}:Cut", *DIGITS, "--weights", weights, "--limit", "4"]
    assert main([*what, "--attacks", "fgsm"]) == 2
    assert "network must be differentiable for an attack by gradient" in capsys.readouterr().err
    assert main([*what, "--attacks", "{name: square, queries: 5}"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "must have format 1, got None"), ('{"format": 1}', "but lacks 'settings'")],
)
def test_a_damaged_description_of_a_chosen_network_is_named(
    chosen_folder, tmp_path, capsys, text, message
):
    folder = chosen_folder(tmp_path)
    (folder / "genotype.json").write_text(text)
    assert main(["evaluate", str(folder)]) == 2
    assert message in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_a_dataset_of_a_folder_may_have_moved(chosen_folder, tmp_path, capsys):
    folder = str(chosen_folder(tmp_path))
    assert main(["evaluate", folder, "--root", str(tmp_path), "--tier", "quick"]) == 2
    assert "data.root is not known" in capsys.readouterr().err  # synthetic images have no files


def test_sweeps_are_plotted_and_recorded(weights, tmp_path):
    output = tmp_path / "out"
    arguments = ["--weights", weights, "--attacks", "fgsm", "--output", str(output)]
    sweeps = ["--sweep-epsilon", "0,8/255,64/255", "--sweep-steps", "1,2,5"]
    assert run(*arguments, *sweeps) == 0
    records = read_records(output / "records.jsonl")
    radii = [r for r in records if r.stage == "sweep_epsilon"]
    assert [r.metrics["epsilon"] for r in radii] == [0, 8 / 255, 64 / 255]
    accuracies = [r.metrics["default"] for r in radii]
    assert accuracies[0] == radii[0].metrics["clean"]  # no budget, no harm
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] < 0.1
    steps = [r for r in records if r.stage == "sweep_steps"]
    assert [r.metrics["steps"] for r in steps] == [1, 2, 5]
    for axis in ("epsilon", "steps"):
        assert (output / f"Linear-{axis}.svg").read_text().startswith("<?xml")
        assert (output / f"Linear-{axis}.png").read_bytes()[1:4] == b"PNG"


def test_a_chosen_network_is_attacked_under_its_own_threat_model(chosen_folder, tmp_path):
    folder = chosen_folder(tmp_path)
    assert main(["evaluate", str(folder), "--tier", "quick", "--output", str(tmp_path / "o")]) == 0
    (record,) = read_records(tmp_path / "o" / "records.jsonl")
    assert record.genotype == ["11" * 14]
    assert record.settings["threat_model"] == {"norm": "linf", "epsilon": 0.05}
    assert record.settings["data"]["name"] == "synthetic"
    assert record.settings["attacks"][0]["step_size"] == pytest.approx(0.05 / 4)


def test_networks_of_one_name_in_several_trials_are_kept_apart(chosen_folder, tmp_path):
    for trial in ("a", "b"):
        chosen_folder(tmp_path / "trials" / trial)
    arguments = ["evaluate", str(tmp_path / "trials"), "--output", str(tmp_path / "o")]
    for _ in range(2):  # what is stored of each is found again
        assert main(arguments) == 0
    labels = [r.settings["label"] for r in read_records(tmp_path / "o" / "records.jsonl")]
    assert labels == ["a-0123456789", "b-0123456789"] * 2


def test_an_entry_in_robustbench_needs_all_test_images(chosen_folder, tmp_path, capsys):
    folder = chosen_folder(tmp_path, limit=40)
    entry = tmp_path / "entry.json"
    assert main(["evaluate", str(folder), "--tier", "full", "--robustbench", str(entry)]) == 2
    assert "must come with all test images, but data.limit is 40" in capsys.readouterr().err
    assert not entry.exists()


def test_reference_and_published_networks_come_with_arguments(tmp_path, capsys):
    reference = MODELS["resnet18"](num_classes=10, in_channels=1, width=0.125)
    torch.save(reference.state_dict(), tmp_path / "resnet.pt")
    what = "{name: resnet18, width: 0.125}"
    options = [*DIGITS, "--limit", "10", "--attacks", "fgsm"]
    assert main(["evaluate", what, "--weights", str(tmp_path / "resnet.pt"), *options]) == 0
    published = RobNetSpace.load_searched_model("robnet-small", num_cells=3, width=4, in_channels=1)
    torch.save({"format": 1, "state_dict": published.state_dict()}, tmp_path / "robnet.pt")
    what = "{name: robnet-small, num_cells: 3, width: 4}"
    assert main(["evaluate", what, "--weights", str(tmp_path / "robnet.pt"), *options]) == 0
    assert "resnet18: 10 test" in (out := capsys.readouterr().out)
    assert "robnet-small: 10 test" in out


def test_half_precision_weights_are_evaluated_in_single_precision(linear, tmp_path, capsys):
    path = tmp_path / "half.pt"
    torch.save({k: v.half() for k, v in linear.state_dict().items()}, path)
    assert run("--weights", str(path), "--attacks", "fgsm") == 0
    assert "weights in torch.float16 are evaluated in torch.float32" in capsys.readouterr().err


def test_an_entry_in_robustbench_is_written(weights, tmp_path, monkeypatch):
    # The entry is what is tested, AutoAttack elsewhere.
    monkeypatch.setitem(TIERS, "full", lambda threat_model: [FGSM(threat_model=threat_model)])
    path, output = tmp_path / "entry.json", tmp_path / "out"
    arguments = ["--weights", weights, "--data", "digits", "--output", str(output)]
    status = main(
        ["evaluate", f"{__name__}:Linear", *arguments, "--tier", "full", "--robustbench", str(path)]
    )
    assert status == 0
    entry = json.loads(path.read_text())
    (record,) = read_records(output / "records.jsonl")
    assert entry["eps"] == "8/255"
    assert entry["autoattack_acc"] == f"{100 * record.metrics['default']:.2f}"
    assert entry["clean_acc"] == f"{100 * record.metrics['clean']:.2f}"
    # The keys of the files in RobustBench's model_info.
    assert list(entry) == [
        *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset"),
        *("venue", "architecture", "eps", "clean_acc", "reported", "autoattack_acc"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "network must be a folder or the name of a network, got ''"),
        ([" "], "network must be a folder or the name of a network, got ''"),
        (["nothing"], "network must be a folder of results, package.module:Class or one of"),
        (["resnet18"], "weights must be given: resnet18 comes without any"),
        (
            ["resnet18", "--weights", "no.pt"],
            "weights must be a file, but there is none at 'no.pt'",
        ),
        (["{name: resnet18, depth: 3}", "--weights", "no.pt"], "network.*depth"),
        (["{name: resnet18"], "network must be YAML, got '{name: resnet18'"),
        (["{width: 2}"], "network must be a mapping with a name"),
        (["os:getcwd"], "network must be a torch.nn.Module, got a str"),
        (["nowhere:Net"], "network.name must name a class that can be imported"),
        (
            [f"{__name__}:Untrained"],
            r"network must take images of shape \(1, 8, 8\), but fails on one",
        ),
        (
            [f"{{name: '{__name__}:Untrained', channels: 1}}"],
            r"network must return 10 logits per image, shape \(1, 10\) for one, got \(1, 4, 6, 6\)",
        ),
        ([f"{__name__}:Linear", "--attacks", "fgsm,fgsm"], "attacks must differ in name"),
        ([f"{__name__}:Linear", "--attacks", "[]"], "attacks must hold at least one attack"),
        ([f"{__name__}:Linear", "--attacks", "{name: pgd, step: 3}"], r"attacks\[0\].step is not"),
        ([f"{__name__}:Linear", "--attacks", "[fgsm"], "--attacks must be YAML"),
        ([f"{__name__}:Linear", "--attacks", "fgsm", "--tier", "quick"], "--tier must be left out"),
        ([f"{__name__}:Linear", "--epsilon", "8"], "threat_model.epsilon must lie in"),
        ([f"{__name__}:Linear", "--norm", "l2"], "--epsilon must be given with --norm l2"),
        ([f"{__name__}:Linear", "--device", "abacus"], "--device must be auto or a device"),
        (
            [f"{__name__}:Linear", "--sweep-steps", "1"],
            "--output must be given where there is a sw",
        ),
        (
            [f"{__name__}:Linear", "--sweep-steps", "1,x", "--output", "out"],
            "--sweep-steps must be a whole number of at least 1, got 'x'",
        ),
        (
            [f"{__name__}:Linear", "--robustbench", "e.json"],
            "--robustbench must come with --tier f",
        ),
        ([f"{__name__}:Linear", "--data", "cifar10"], "data.root is missing"),
        (["resnet17", "--data", "cifar10"], "one of .* got 'resnet17'. Did you mean 'resnet1"),
        (
            [f"{__name__}:Linear", "--attacks", "no.yml"],
            "but there is no file 'no.yml'",
        ),
        (
            [f"{__name__}:Linear", "--attacks", "{name: fgsm, threat_model: {epsilon: 1/255}}"],
            r"attacks\[0\].threat_model must be left out",
        ),
        ([f"{__name__}:Linear", "--seed", "-1"], "--seed must be a whole number from 0 .* got -1"),
        (
            [f"{__name__}:Linear", "--output", "/dev/null/x"],
            "--output must be a place where files can",
        ),
        ([f"{__name__}:Raising"], "but fails on one: KeyError: 'no such layer'"),
        ([f"{__name__}:Linear", "--weights", "nan.pt"], "weights must be finite, but 1.weight and"),
        ([".", "--weights", "w.pt"], "--weights must be left out: a folder of results has its own"),
        ([".", "--tier", "quick"], "must hold a chosen network"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"1.weight": torch.tensor(float("nan"))}, "nan.pt")
    data = [] if "--data" in arguments else ["--data", "digits"]
    assert main(["evaluate", *arguments, *data]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "out" / "records.jsonl").exists()  # checked before any work
