"""The networks in a folder of results: what they are, and their accuracies on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nni_robust.attack import ATTACKS
from nni_robust.functional.interval import accuracy_interval
from nni_robust.record import Record, read_records
from nni_robust.results.files import SearchFiles, sample_key
from nni_robust.settings.grammar import build
from nni_robust.settings.networks import section_label

_VALIDATION = ("candidate", "train")  # stages that attacked validation images last
_TEST = ("final", "attack")  # stages that attacked test images
_WORST = "default"


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Accuracies of a network on one set of images.

    Attributes
    ----------
    values
        Fractions by name: ``clean``, the attacks, and ``default``, under the worst attack for each
        image.
    num_images
        Number of images, or None if it is not on record.
    """

    values: dict[str, float]
    num_images: int | None

    @property
    def worst(self) -> float:
        """Accuracy under the worst attack for each image."""
        return self.values[_WORST]

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the 95 % Wilson interval of an accuracy, or None without a number of images."""
        if self.num_images is None:
            return None
        return accuracy_interval(round(self.values[name] * self.num_images), self.num_images)


@dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """A network that a search or training measured.

    Attributes
    ----------
    name
        Name of its folder below ``final``.
    title
        What it is, for a reader.
    genotype
        Its architecture, where it has one.
    num_parameters
        Their number, or None if it is not on record.
    validation, test
        Accuracies, None if it was not measured on these images.
    results
        Folder of the results that it belongs to.
    """

    name: str
    title: str
    genotype: Sequence[str]
    num_parameters: int | None
    validation: Accuracies | None = None
    test: Accuracies | None = None
    results: Path

    @property
    def final(self) -> Path:
        """Folder of its files if it was chosen."""
        return self.results / "final" / self.name


def measured_networks(directory: Path) -> list[MeasuredNetwork]:
    """List the networks whose validation or test accuracies are on record in a folder.

    Parameters
    ----------
    directory
        Folder of the results of one search or training, or a folder of such folders.
    """
    found: dict[tuple[Path, str], MeasuredNetwork] = {}
    for path in sorted(directory.rglob(SearchFiles(directory).records.name)):
        for record in read_records(path):
            if record.error is not None or record.stage not in _VALIDATION + _TEST:
                continue
            network = _network(record, path.parent)
            known = found.get((path.parent, network.name), network)
            found[path.parent, network.name] = replace(
                network,
                validation=network.validation or known.validation,
                test=network.test or known.test,
            )
    return list(found.values())


def accuracy_title(name: str) -> str:
    """Return the name of an accuracy for a reader."""
    return "worst of suite" if name == _WORST else name


def _network(record: Record, results: Path) -> MeasuredNetwork:
    section = record.settings.get("network")
    name = title = sample_key(record.sample)
    if section:
        name = section_label(section)
        options = ", ".join(f"{k}: {v}" for k, v in section.items() if k != "name")
        title = f"{section['name']} ({options})" if options else str(section["name"])
    size = record.metrics.get("num_parameters")
    accuracies = Accuracies(
        values={name: record.metrics[name] for name in _accuracy_names(record)},
        num_images=record.details.get("num_images"),
    )
    return MeasuredNetwork(
        name=name,
        title=title,
        genotype=record.genotype or [],
        num_parameters=None if size is None else int(size),
        results=results,
        **{"test" if record.stage in _TEST else "validation": accuracies},
    )


def _accuracy_names(record: Record) -> list[str]:
    """List the metrics of a record that are accuracies of its suite, the worst last."""
    evaluator: dict[str, Any] = record.settings.get("evaluator", {})
    sections = evaluator.get("test_attacks", evaluator.get("attacks", []))
    names = [build(item, ATTACKS, f"test_attacks[{i}]").name for i, item in enumerate(sections)]
    if "source" in record.settings:
        names = [f"transfer_{name}" for name in names]
    return [name for name in ["clean", *names, _WORST] if name in record.metrics]
