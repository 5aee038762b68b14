"""Measure chosen networks again, and compare with their records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nni_robust.attack import Attack
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.build import conditions_of
from nni_robust.results.chosen import chosen_folders, load_chosen, read_chosen

_TOLERANCE = 1e-9  # the same images under the same attacks: any difference is one of arithmetic


def compare(directory: Path) -> int:
    """Attack every chosen network of a search again, and print a table.

    Parameters
    ----------
    directory
        Folder of a search's results, of several searches, or of one chosen network.

    Returns
    -------
    int
        0 if the accuracies are those on record, otherwise 1.

    Raises
    ------
    ValueError
        If there is no chosen network, or a file of it is missing or damaged.
    """
    folders = chosen_folders(directory)
    same = True
    for folder in folders:
        chosen = read_chosen(folder)
        measured = measure(folder, chosen)
        recorded = {name: chosen["metrics"][name] for name in measured}
        same &= all(abs(measured[k] - recorded[k]) <= _TOLERANCE for k in measured)
        _print_comparison(folder, chosen, measured, recorded)
    return 0 if same else 1


def measure(folder: Path, chosen: dict[str, Any]) -> dict[str, float]:
    """Attack a chosen network on the test images, just as the record says it was."""
    conditions = conditions_of(chosen)
    network = load_chosen(folder).to(conditions.torch_device)
    x, y = conditions.data.stored_examples("test")
    with progress_bar(len(x), conditions.test_attacks) as bar:
        accuracies = attacked_accuracy(
            network,
            x,
            y,
            attacks=conditions.test_attacks,
            batch_size=conditions.batch_size,
            seed=conditions.seed,
            progress=bar.update,
        )
    return {"default": accuracies.pop("robust"), **accuracies}


def progress_bar(num_images: int, attacks: Sequence[Attack]) -> Any:
    """Make a progress bar over the clean images and every attack.

    Parameters
    ----------
    num_images
        Images of the evaluation.
    attacks
        The suite.
    """
    total = num_images * (1 + len(attacks))
    return tqdm(total=total, unit="image", file=sys.stderr, disable=None)


def _print_comparison(
    folder: Path, chosen: dict[str, Any], measured: dict[str, float], recorded: dict[str, float]
) -> None:
    size = chosen["metrics"]["params_m"]
    head = [f"{folder.name}: {size:.3f} M parameters", " ".join(chosen["genotype"] or [])]
    lines = [", ".join(part for part in head if part)]
    lines.append(f"{'test images':<16}{'measured':>10}{'on record':>12}")
    names = {"default": "worst of suite"}
    for key, value in measured.items():
        shown = f"{100 * value:>9.2f}%{100 * recorded[key]:>11.2f}%"
        lines.append(f"{names.get(key, key):<16}{shown}")
    sys.stdout.write("\n".join(lines) + "\n")
