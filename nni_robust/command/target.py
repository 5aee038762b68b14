"""Targets: networks with their data and threat model, from what the user typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nni_robust.attack import ThreatModel
from nni_robust.check import SettingError, did_you_mean
from nni_robust.command.options import TargetOptions
from nni_robust.data import DATASETS, RobustDataModule
from nni_robust.job.build import conditions_of
from nni_robust.results.chosen import chosen_folders, load_chosen, read_chosen
from nni_robust.results.weights import describe_weights, load_weights, restore
from nni_robust.settings.description import describe
from nni_robust.settings.grammar import build, build_threat_model
from nni_robust.settings.networks import NETWORKS, build_network, check_fit, section_label
from nni_robust.space import PUBLISHED

_CIFAR10 = {"name": "cifar10"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is attacked: a network, on which data, under which threat model.

    Attributes
    ----------
    label
        Name for tables and files.
    network
        With its weights, on the CPU and in evaluation mode.
    data
        Its images.
    threat_model
        What the adversary may do.
    origin
        How to build the network again, for records.
    sample, genotype
        Its architecture if it was searched or published.
    remarks
        What a reader of its accuracies should know about the weights.
    """

    label: str
    network: nn.Module
    data: RobustDataModule
    threat_model: ThreatModel
    origin: dict[str, Any]
    sample: dict[str, Any] = field(default_factory=dict)
    genotype: list[str] | None = None
    remarks: tuple[str, ...] = ()


def targets(options: TargetOptions, data: RobustDataModule | None = None) -> list[Target]:
    """Build the networks that a user asks for, each with its data and threat model.

    Parameters
    ----------
    options
        What the user typed. A folder may hold several networks.
    data
        Images to use instead of those that the options name.

    Raises
    ------
    SettingError
        If there is no such network, or its weights or images do not fit.
    """
    if isinstance(options.network, Path):
        folders = chosen_folders(options.network)
        found = [_target_in_folder(folder, options.network, options, data) for folder in folders]
    else:
        found = [_named_target(options.network, options, data)]
    for target in found:
        check_fit(target.network, target.data)
    return found


def _target_in_folder(
    folder: Path, directory: Path, options: TargetOptions, data: RobustDataModule | None
) -> Target:
    chosen = read_chosen(folder)
    conditions = conditions_of(chosen)
    usual = conditions.test_attacks[0].threat_model
    used, threat_model = _data_and_threat_model(options, data, conditions.data, usual)
    # Trials of one experiment may hold networks of the same name.
    parts = folder.absolute().relative_to(directory.absolute()).parts
    return Target(
        label="-".join(part for part in parts if part != "final") or folder.name,
        network=load_chosen(folder),
        data=used,
        threat_model=threat_model,
        origin={"folder": str(folder.absolute())},
        sample=chosen["sample"],
        genotype=chosen["genotype"],
    )


def _named_target(
    section: dict[str, Any], options: TargetOptions, data: RobustDataModule | None
) -> Target:
    name = str(section["name"])
    if name not in NETWORKS and ":" not in name:
        raise SettingError(
            f"must be a folder of results, package.module:Class or one of {sorted(NETWORKS)}, "
            f"got {name!r}.{did_you_mean(name, NETWORKS)}",
            "network",
        )
    if options.weights is None and name in NETWORKS:
        raise SettingError(
            f"must be given: {name} comes without any. Add --weights FILE.", "weights"
        )
    used, threat_model = _data_and_threat_model(options, data, None, ThreatModel())
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a class that draws its weights draws the same ones every time
        network = build_network(section, used)
    label = section_label(section)
    origin: dict[str, Any] = {"network": section}
    if options.weights is None:
        remarks = [f"{label} has the weights that its class draws: there are no --weights."]
    else:
        state = load_weights(options.weights)
        origin |= describe_weights(options.weights, state)
        restore(network, state, str(options.weights))
        others = {*origin["weights_dtypes"]} - {"torch.float32"}
        remarks = [f"weights in {dtype} are evaluated in torch.float32" for dtype in sorted(others)]
    return Target(
        label=label,
        network=network.eval(),
        data=used,
        threat_model=threat_model,
        origin=origin,
        genotype=list(PUBLISHED[name].genotypes) if name in PUBLISHED else None,
        remarks=tuple(remarks),
    )


def _data_and_threat_model(
    options: TargetOptions,
    data: RobustDataModule | None,
    usual_data: RobustDataModule | None,
    usual: ThreatModel,
) -> tuple[RobustDataModule, ThreatModel]:
    """Build what the options name; what they leave out is as usual."""
    norm = options.norm or usual.norm
    if norm != usual.norm and options.epsilon is None:
        raise SettingError(
            f"must be given with --norm {norm}: the usual radius is one in {usual.norm}.",
            "--epsilon",
        )
    epsilon = usual.epsilon if options.epsilon is None else options.epsilon
    root = {} if options.root is None else {"root": options.root}
    if data is None:
        if options.data is not None or usual_data is None:
            data = build({**(options.data or _CIFAR10), **root}, DATASETS, "data")
        else:
            data = build({**describe(usual_data), **root}, DATASETS, "data") if root else usual_data
    return data, build_threat_model({"norm": norm, "epsilon": epsilon}, "threat_model")
