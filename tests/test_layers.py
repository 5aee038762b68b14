"""Who may import whom, what stands in the tables, and how light the package is to import."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nni_robust"

# Folder: what it may import of this package, and whether it may import nni.
EVERYTHING = {
    *{
        "replacing",
        "functional",
        "model",
        "attack",
        "op",
        "data",
        "record",
        "space",
        "oneshot",
        "evaluator",
    },
    *{"strategy", "report", "experiment"},
}
MAY_IMPORT: dict[str, tuple[set[str], bool]] = {
    "functional": (set(), False),
    "model": (set(), False),
    "data": (set(), False),
    "record": (set(), False),
    "replacing": (set(), False),
    "attack": ({"functional"}, False),
    "op": ({"functional"}, False),
    "space": ({"op"}, True),
    "oneshot": ({"space", "op", "functional"}, True),
    "evaluator": ({"attack", "functional", "replacing"}, True),
    "strategy": ({"oneshot", "space"}, True),
    "report": ({"record", "replacing"}, False),
    "experiment": (EVERYTHING, True),
    "__main__": (EVERYTHING, True),
    "__init__": (set(), False),
}

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
def test_a_file_imports_only_what_its_folder_may(path):
    folder = folder_of(path)
    allowed, nni = MAY_IMPORT[folder]
    for name in imported(path):
        first, *rest = name.split(".")
        if first == "nni_robust":
            assert rest[0] in {*allowed, folder}, f"{path} imports {name}"
        if first == "nni":
            assert nni, f"{path} imports {name}"


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
def test_every_public_class_stands_in_its_table(module, table, base):
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
    code = "import sys, nni_robust.experiment.host; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
