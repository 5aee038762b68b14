"""The command `verify`: evaluate chosen networks again, and compare with the record."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_robust.command.evaluate import progress_bar
from nni_robust.command.networks import accuracy_title
from nni_robust.command.options import TargetOptions, read_folder
from nni_robust.command.summary import heading
from nni_robust.command.target import Target, targets
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.base import Conditions
from nni_robust.job.build import conditions_of
from nni_robust.report.text_table import percent, text_table
from nni_robust.results.chosen import read_chosen

_TOLERANCE = 1e-9  # on the same images and attacks, only rounding may differ


def run(given: argparse.Namespace) -> int:
    """Attack every network in a folder of results again, and print a table for each.

    Returns
    -------
    int
        0 if the accuracies are those on record, otherwise 1.
    """
    same = True
    for target in targets(TargetOptions(network=read_folder(given.directory))):
        chosen = read_chosen(Path(target.origin["folder"]))
        recorded = chosen["metrics"]
        num_images, measured = _measure(target, conditions_of(chosen))
        rows = [["accuracy", f"{num_images} test images", "on record"]]
        for name, accuracy in measured.items():
            rows.append([accuracy_title(name), percent(accuracy), percent(recorded[name])])
            same &= abs(accuracy - recorded[name]) <= _TOLERANCE
        title = heading(target.label, recorded["num_parameters"], target.genotype or [])
        print(f"{title}\n\n{text_table(rows, right=[1, 2])}\n")
    print(f"The accuracies {'are' if same else 'differ from'} those on record.")
    return 0 if same else 1


def _measure(target: Target, conditions: Conditions) -> tuple[int, dict[str, float]]:
    """Return the number of test images, and the accuracies under the conditions on record."""
    x, y = conditions.data.stored_examples("test")
    with progress_bar(len(x), conditions.test_attacks) as bar:
        accuracies = attacked_accuracy(
            target.network.to(conditions.torch_device),
            x,
            y,
            attacks=conditions.test_attacks,
            batch_size=conditions.batch_size,
            seed=conditions.seed,
            progress=bar.update,
        )
    worst = accuracies.pop("robust")
    return len(x), {**accuracies, "default": worst}
