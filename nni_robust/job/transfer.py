"""Attack networks that were trained before, with images of their own or of another network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nni
from torch import Tensor

from nni_robust.attack import Attack, Transfer
from nni_robust.check import check_count
from nni_robust.data import Examples
from nni_robust.evaluator.outcome import Robustness
from nni_robust.evaluator.robustness import check_suite, measure_robustness
from nni_robust.job.build import OPTIONS, at_scale
from nni_robust.job.measure import Metrics
from nni_robust.job.training import choose_device
from nni_robust.record import Record, read_records
from nni_robust.results.chosen import chosen_data, load_chosen, read_chosen
from nni_robust.results.files import SearchFiles
from nni_robust.results.row import FULL, Row, find_rows
from nni_robust.settings.grammar import (
    build,
    build_threat_model,
    describe,
    did_you_mean,
    flatten,
)

SECTIONS = ("networks", "target", "source", "evaluator")

_KEYS = ("table", "row", "seed")  # of a training


@dataclass(frozen=True, kw_only=True)
class Assault:
    """How the networks are attacked.

    Attributes
    ----------
    attacks
        The suite.
    batch_size
        Images attacked at once.
    limit
        Test images, or None for all.
    seed
        Of the attacks.
    keep_fooled
        Whether every attack is shown all images, as in the papers' tables, or those alone that no
        attack before it has fooled, as in AutoAttack.
    """

    attacks: Sequence[Attack]
    batch_size: int = 256
    limit: int | None = None
    seed: int = 0
    keep_fooled: bool = True

    def __post_init__(self) -> None:
        check_suite("attacks", self.attacks)
        check_count("batch_size", self.batch_size)
        if self.limit is not None:
            check_count("limit", self.limit)


def check_attack(sections: Mapping[str, Any]) -> Assault:
    """Check the sections of a file, all but whether its networks are there.

    Parameters
    ----------
    sections
        ``networks``, a folder in which trainings lie at any depth; ``target``, the ``table``,
        ``row`` and ``seed`` of the network that is tested, the seed being that of the file unless
        given; ``source``, that of the network that the images are made on, if it is another;
        ``evaluator``, the attacks.

    Raises
    ------
    ValueError
        In one line, with the path of the key.
    """
    sections = at_scale(sections)
    known = [*SECTIONS, *OPTIONS]
    for key in sections:
        if key not in known:
            hint = did_you_mean(key, known)
            raise ValueError(f"{key} is not a section; sections are {known}.{hint}")
    for key in ("networks", "target", "evaluator"):
        if key not in sections:
            raise ValueError(f"{key} is missing: needed are the sections {SECTIONS}.")
    if not isinstance(sections["networks"], str):
        raise ValueError(f"networks must be a folder, got {sections['networks']!r}.")
    for key in ("target", "source"):
        wanted = sections.get(key, dict.fromkeys(_KEYS))
        if not isinstance(wanted, Mapping) or {*wanted, "seed"} != {*_KEYS}:
            raise ValueError(f"{key} must be a mapping with the keys {_KEYS}, got {wanted!r}.")
    section = sections["evaluator"]
    if not isinstance(section, Mapping):
        raise ValueError(f"evaluator must be a mapping with the key 'attacks', got {section!r}.")
    rest = {key: value for key, value in section.items() if key != "threat_model"}
    given: dict[str, Any] = {"seed": sections["seed"]} if "seed" in sections else {}
    if "threat_model" in section:
        path = "evaluator.threat_model"
        given["threat_model"] = build_threat_model(section["threat_model"], path)
    assault: Assault = build({"name": "attack", **rest}, {"attack": Assault}, "evaluator", **given)
    return assault


def attack_networks(sections: Mapping[str, Any], directory: Path) -> Metrics:
    """Attack a trained network on its test images, and record it.

    Parameters
    ----------
    sections
        As for :func:`check_attack`.
    directory
        Folder of the results, of this attack alone; one that was stopped goes on from it.

    Returns
    -------
    dict
        ``default``, the accuracy under the worst attack for each image, ``clean``, and one key an
        attack, ``transfer_pgd100`` where there is a source.

    Raises
    ------
    ValueError
        In one line: a section is wrong, or a network is not there.
    """
    assault = check_attack(sections)
    scale = str(sections.get("scale", FULL))
    sections = at_scale(sections)
    networks = Path(sections["networks"])
    same_seed = {"seed": sections.get("seed", 0)}
    places: dict[str, Path] = {
        key: find_trained(networks, key, same_seed | dict(sections[key]), scale)
        for key in ("target", "source")
        if key in sections
    }
    chosen = read_chosen(places["target"])
    data = chosen_data(chosen)
    settings = {
        "network": chosen["settings"].get("network"),
        **{key: str(folder) for key, folder in places.items()},
        "evaluator": {"name": "attack", **_describe(assault), "data": describe(data)},
    }
    files = SearchFiles(directory)
    files.claim(flatten(settings))
    metrics = _known(files)
    if metrics is None:
        x, y = data.stored_examples("test", assault.limit)
        accuracies = _attack(places, x, y, assault, files).accuracies()
        metrics = {"default": accuracies.pop("robust"), **accuracies}
        Record(
            sample=chosen["sample"],
            genotype=chosen["genotype"],
            stage="attack",
            metrics=metrics,
            seed=assault.seed,
            settings=settings,
            details={"num_images": len(x)},
        ).append(files.records)
    if nni.get_current_parameter() is not None:
        nni.report_final_result(metrics)
    return metrics


def _known(files: SearchFiles) -> Metrics | None:
    """Metrics of an attack that was carried out before."""
    if not files.records.is_file():
        return None
    return next((record.metrics for record in read_records(files.records)), None)


def _attack(
    places: Mapping[str, Path], x: Examples, y: Tensor, assault: Assault, files: SearchFiles
) -> Robustness:
    device = choose_device("auto")
    attacks = assault.attacks
    if "source" in places:
        source = load_chosen(places["source"]).to(device)
        attacks = [Transfer(source=source, attack=attack) for attack in attacks]
    return measure_robustness(
        load_chosen(places["target"]).to(device),
        x,
        y,
        attacks=attacks,
        batch_size=assault.batch_size,
        seed=assault.seed,
        keep_fooled=assault.keep_fooled,
        state=files.directory / "state",
    )


def find_trained(networks: Path, path: str, wanted: Mapping[str, Any], scale: str) -> Path:
    """Find the one network of a row that was trained to the end.

    Parameters
    ----------
    networks
        Folder below which trainings and searches lie.
    path
        Where *wanted* stands, for messages.
    wanted
        ``table``, ``row`` and ``seed``.
    scale
        Of the training.

    Returns
    -------
    Path
        As for :func:`nni_robust.results.chosen.load_chosen`.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    row = Row(**wanted, scale=scale)
    folders = [folder for folder, other in find_rows(networks) if other == row]
    found = [final for folder in folders for final in SearchFiles(folder).finals()]
    if not found:
        raise ValueError(
            f"{path} must be a finished training below {str(networks)!r}, but there is none of "
            f"{row}. Train it first: the experiment of table {row.table!r}."
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} must be one training, but of {row} there are {len(found)}: "
            f"{[str(folder) for folder in found]}. Move all but one away."
        )
    return found[0]


def _describe(assault: Assault) -> dict[str, Any]:
    return {field.name: describe(getattr(assault, field.name)) for field in fields(assault)}
