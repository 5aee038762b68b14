"""What the README says is what the package does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nni_robust.command.validate import validate
from nni_robust.job.build import build_search
from nni_robust.settings.grammar import describe, describe_call

ROOT = Path(__file__).parents[1]


def block(name: str) -> str:
    """Give the code block that follows a mark."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"the README has no block {name}"
    return found[1]


@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_the_python_search_is_that_of_the_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written, run = block("python").split("\n\nexperiment =")
    assert "experiment.run(" in run
    names: dict[str, Any] = {}
    exec(written, names)
    sections = yaml.safe_load((ROOT / "examples" / "robnet.yml").read_text())["tuner"]["classArgs"]
    search = build_search(sections, directory="results")
    assert describe_call(names["evaluator"]) == describe_call(search.evaluator)
    assert names["space"].layout == search.space.layout
    assert names["space"].bounds == search.space.bounds
    for key in ("num_samples", "num_candidates", "num_shards", "fsp_quantile", "seed"):
        assert getattr(names["strategy"], key) == getattr(search.strategy, key)
    assert describe(names["evaluator"].data) == describe(search.data)


def test_the_commands_name_files_that_are_there():
    for path in re.findall(r"(?:examples|docs)/[\w.]+", (ROOT / "README.md").read_text()):
        assert (ROOT / path).exists(), path
    assert "validate examples/robnet.yml" in block("search")
    validate(ROOT / "examples" / "robnet.yml")
