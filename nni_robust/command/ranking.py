"""The ranking of a search: its candidates by validation accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nni_robust.command.networks import MeasuredNetwork, measured_networks
from nni_robust.command.summary import network_summary
from nni_robust.command.table import percent, table

_LONGEST_GENOTYPE = 28  # characters of a table cell: the code of a RobNet cell

_HEADS = {"default": "worst"}


def ranking(directories: Sequence[Path]) -> str:
    """Rank the candidates of searches, and describe the chosen networks; empty without any.

    Parameters
    ----------
    directories
        Folders of results, at any depth.
    """
    networks = [n for folder in directories for n in measured_networks(folder)]
    candidates = [network for network in networks if network.validation is not None]
    if not candidates:
        return ""
    candidates.sort(key=lambda network: -_worst(network))
    chosen = [network for network in networks if network.test is not None]
    several = "candidates, ranked" if len(candidates) > 1 else "candidate,"
    title = f"{len(candidates)} {several} by validation accuracy (worst attack for each image)"
    return "\n\n".join(
        [f"{title}\n{_table(candidates)}", *(f"Chosen\n{network_summary(n)}" for n in chosen)]
    )


def _worst(network: MeasuredNetwork) -> float:
    assert network.validation is not None  # they are candidates
    return network.validation.worst


def _table(candidates: Sequence[MeasuredNetwork]) -> str:
    """Write one line per candidate; a star marks the chosen ones."""
    suite = dict.fromkeys(n for c in candidates if c.validation for n in c.validation.values)
    codes = [" ".join(candidate.genotype) for candidate in candidates]
    shown = any(codes) and max(map(len, codes)) <= _LONGEST_GENOTYPE
    heads = ["rank", "network", "parameters", *(_HEADS.get(name, name) for name in suite)]
    rows = []
    for rank, (candidate, code) in enumerate(zip(candidates, codes, strict=True), start=1):
        assert candidate.validation is not None  # as above
        values, size = candidate.validation.values, candidate.num_parameters
        star = "*" if candidate.test is not None else ""
        row = [f"{rank}{star}", candidate.name, "-" if size is None else f"{size:,}"]
        row += [percent(values[name]) if name in values else "-" for name in suite]
        rows.append(row[:2] + [code or "-"] * shown + row[2:])
    return table(heads[:2] + ["genotype"] * shown + heads[2:], rows, left=2 + shown)
