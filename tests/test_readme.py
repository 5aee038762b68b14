"""What the README and the pages in docs/ say is what the package does."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nni.nas.experiment.config import NasExperimentConfig

from nni_robust.__main__ import main
from nni_robust.command.validate import validate
from nni_robust.space import STAGE

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += [ROOT / "examples" / "tables" / "README.md"]


def block(name: str, page: Path = README) -> str:
    """Return the code block that follows a mark."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL)
    assert found is not None, f"{page.name} has no block {name}"
    return found[1]


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


SMALL = {
    "nr.Digits()": "nr.Digits(limit=50)",
    "supernet_epochs=20": "supernet_epochs=1",
    "num_samples=24, num_candidates=8": "num_samples=2, num_candidates=1",
    "num_cells=5, width=8": "num_cells=1, width=4",
}
"""Sizes of the README's search, and smaller ones."""


@pytest.mark.filterwarnings("ignore")  # of Lightning and NNI
def test_the_search_in_python_finds_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where NNI lists experiments
    # The export takes most of the time, and has tests of its own.
    program = SimpleNamespace(save=lambda path: None)
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: program)
    code = block("python")
    for large, small in SMALL.items():
        assert large in code
        code = code.replace(large, small)
    prepare, run = code.split("experiment = ")
    names: dict[str, Any] = {}
    exec(prepare, names)
    # In this process, without NNI's manager and page.
    parts = [names[name] for name in ("space", "evaluator", "strategy")]
    config = NasExperimentConfig.default(*parts)
    config.execution_engine = NasExperimentConfig(execution_engine="sequential").execution_engine
    config.experiment_working_directory = str(tmp_path)
    names["config"] = config
    exec("experiment = " + run.replace("strategy)", "strategy, config)"), names)
    (best,) = names["experiment"].export_top_models(formatter="dict")
    names["experiment"].stop()
    assert best[STAGE] == "candidate"
    assert len(list(tmp_path.glob("results/final/*/genotype.json"))) == 1


@pytest.mark.filterwarnings("ignore")  # of Lightning and NNI
def test_the_racl_search_of_the_guide_is_accepted():
    prepare, run = block("racl", GUIDE).split("experiment.run()")
    assert "export_top_models" in run
    assert 'nr.CIFAR10(root="data", ' in prepare
    synthetic = "nr.Synthetic(image_shape=(3, 32, 32), num_examples=40, num_classes=10, "
    names: dict[str, Any] = {}
    exec(prepare.replace('nr.CIFAR10(root="data", ', synthetic), names)
    assert names["strategy"].constraint.rho == 0.001
    assert names["experiment"].strategy is names["strategy"]


def test_the_attack_prints_accuracies(capsys):
    code = block("attack")
    assert "width=8" in code
    exec(code.replace("width=8", "num_cells=1, width=4"), {})
    assert "'pgd20': " in capsys.readouterr().out


def test_the_search_command_names_a_valid_file():
    assert "validate examples/robnet.yml" in block("search")
    validate(ROOT / "examples" / "robnet.yml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_and_know_their_options(page, capsys):
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    calls = re.findall(r"(?:nni-robust|python3? -m nni_robust) ([a-z]\w*)([^\n`&#|]*)", text)
    for command, rest in calls:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0, command
        known = capsys.readouterr().out
        for option in re.findall(r"--[a-z][a-z-]*", rest):
            assert option in known, f"{command} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target), link
    for path in re.findall(r"`((?:examples|docs|benchmarks|tests|nni_robust)/[\w./]+)`", text):
        assert (ROOT / path).exists() or path == "examples/data", path  # a user's own images


def test_the_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 110
    prose = re.sub(r"```.*?```|<table>.*?</table>", "", README.read_text(), flags=re.DOTALL)
    for paragraph in prose.split("\n\n"):
        if not paragraph.lstrip().startswith(("|", "-", "[")):
            assert paragraph.strip().count("\n") < 4, paragraph
