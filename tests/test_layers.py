"""Who may import whom, what the tables hold, and how light the package is to import."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import nni_robust

PACKAGE = Path(__file__).parents[1] / "nni_robust"

# From the bottom up: a folder imports only from folders below it. The second value says whether
# it may import nni.
LAYERS: list[tuple[str, bool]] = [
    ("check", False),
    ("atomic", False),
    ("record", False),
    ("network_state", False),
    ("functional", False),
    ("data", False),
    ("model", False),
    ("attack", False),
    ("op", False),
    ("space", True),
    ("training", True),
    ("evaluator", True),
    ("audit", False),
    ("oneshot", True),
    ("strategy", True),
    ("report", False),
    ("settings", True),
    ("results", True),
    ("job", True),
    ("manager", True),
    ("command", True),
    ("__main__", True),
]
# Folders that stay independent of each other although one is listed below the other.
APART = [
    ("strategy", "evaluator"),
    ("oneshot", "evaluator"),
    ("oneshot", "training"),
    ("report", "strategy"),
    ("report", "evaluator"),
    ("data", "functional"),
    ("model", "data"),
    ("attack", "model"),
    ("attack", "data"),
    ("space", "attack"),
    ("space", "data"),
]
HEIGHT = {folder: height for height, (folder, _) in enumerate(LAYERS)}

FILES = sorted(PACKAGE.rglob("*.py"))


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    folder = folder_of(path)
    if folder == "__init__":
        assert not [name for name in imported(path) if name.split(".")[0] in ("nni_robust", "nni")]
        return
    for name in imported(path):
        first, *rest = name.split(".")
        if first == "nni_robust" and rest and rest[0] != folder:
            assert HEIGHT[rest[0]] < HEIGHT[folder], f"{path} imports {name}"
            assert (folder, rest[0]) not in APART, f"{path} imports {name}"
        if first == "nni":
            assert dict(LAYERS)[folder], f"{path} imports {name}"


def test_no_file_is_longer_than_a_reader_can_hold():
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in FILES}
    assert {name: n for name, n in lengths.items() if n > 350} == {}


def test_no_folder_holds_more_than_an_eighth_of_the_code():
    lengths: dict[str, int] = {}
    for path in FILES:
        lengths[folder_of(path)] = lengths.get(folder_of(path), 0) + len(
            path.read_text().splitlines()
        )
    assert max(lengths.values()) <= 0.125 * sum(lengths.values()), lengths


def test_every_public_name_loads():
    for name in nni_robust.__all__:
        assert getattr(nni_robust, name) is not None


def test_there_is_no_file_without_an_idea():
    assert not {path.stem for path in FILES} & {"utils", "util", "common", "misc", "helpers"}


@pytest.mark.parametrize(
    ("module", "table", "base"),
    [
        ("attack", "ATTACKS", "Attack"),
        ("data", "DATASETS", "RobustDataModule"),
        ("evaluator", "EVALUATORS", "Evaluator"),
        ("space", "SPACES", "ModelSpace"),
        ("strategy", "STRATEGIES", "Strategy"),
    ],
)
def test_every_public_class_is_in_its_table(module, table, base):
    package = importlib.import_module(f"nni_robust.{module}")
    listed = set(getattr(package, table).values())
    public = {
        getattr(package, name)
        for name in package.__all__
        if inspect.isclass(getattr(package, name))
        and not inspect.isabstract(getattr(package, name))
        and any(ancestor.__name__ == base for ancestor in getattr(package, name).__mro__[1:])
    }
    assert public <= listed
    assert public, f"nothing of nni_robust.{module} is a {base}"


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, nni_robust; print([m for m in ('torch', 'nni', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_strategy_host_connects_before_torch_is_loaded():
    # NNI gives a tuner ten seconds to connect.
    code = "import sys, nni_robust.manager.host; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
