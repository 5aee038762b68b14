"""What a user installs: versions, dependencies, and the files of the wheel."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import nni_robust

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nni_robust"
# The packages whose import name differs from the name in setup.cfg.
INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def requirements(lines: str) -> list[Requirement]:
    stripped = (line.partition("#")[0].strip() for line in lines.splitlines())
    return [Requirement(line) for line in stripped if line]


REQUIRED = requirements(SETUP["options"]["install_requires"])
CONSTRAINTS = requirements((ROOT / "constraints.txt").read_text())
PYTHONS = re.findall(r":: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)


def test_the_classifiers_name_every_python_that_the_package_allows():
    allowed = SpecifierSet(SETUP["options"]["python_requires"])
    assert [f"3.{minor}" for minor in range(50) if f"3.{minor}.1" in allowed] == PYTHONS


def test_each_lower_bound_is_pinned_on_the_oldest_python():
    pinned = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in CONSTRAINTS
        if pin.marker is None or pin.marker.evaluate({"python_version": PYTHONS[0]})
    }
    bounds = {
        canonicalize_name(required.name): bound.version
        for required in REQUIRED
        for bound in required.specifier
        if bound.operator == ">="
    }
    assert len(bounds) >= 15
    release = {name: ".".join(pinned[name].split(".")[:2]) for name in bounds}
    assert release == bounds


def test_the_newest_pins_are_allowed_on_the_newest_python():
    allowed = {canonicalize_name(required.name): required.specifier for required in REQUIRED}
    for pin in CONSTRAINTS:
        if pin.marker is None or pin.marker.evaluate({"python_version": PYTHONS[-1]}):
            specifier = allowed.get(canonicalize_name(pin.name))
            version = Version(next(iter(pin.specifier)).version)
            assert specifier is None or version in specifier, pin.name


def runtime_imports(path: Path) -> set[str]:
    """Return the top-level names that a file imports, less those for type checkers only."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
        pending.extend(ast.iter_child_nodes(node))
    return names


def test_every_package_that_is_imported_is_a_dependency():
    declared = {canonicalize_name(required.name) for required in REQUIRED}
    extra = requirements(SETUP["options.extras_require"]["eval"])
    declared |= {canonicalize_name(required.name) for required in extra}
    for path in PACKAGE.rglob("*.py"):
        for name in runtime_imports(path) - set(sys.stdlib_module_names) - {"nni_robust"}:
            package = INSTALLED_AS.get(name, canonicalize_name(name))
            assert package in declared, f"{path} imports {name}"


def test_the_wheel_contains_every_file_of_the_package(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "nni_robust", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("nni_robust/")}
        (entry_points,) = (name for name in archive.namelist() if "entry_points" in name)
        assert "nni-robust = nni_robust.__main__:main" in archive.read(entry_points).decode()
    files = (source / "nni_robust").rglob("*")
    assert packed == {str(path.relative_to(source)) for path in files if path.is_file()}


def test_the_citation_names_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == nni_robust.__version__
    assert citation["license"] == SETUP["metadata"]["license"]
