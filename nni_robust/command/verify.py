"""Evaluate the networks in a folder of results again, and compare with the record.

The conditions are those on record. A different accuracy gives exit status 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

_TOLERANCE = 1e-9  # on the same images and attacks, only rounding may differ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("directory", type=Path, help="folder of results, or of one chosen network")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    return verify(given.directory)


def verify(directory: Path) -> int:
    """Attack every network in a folder of results again, and print a table.

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
    SettingError
        If there is no chosen network, or a file of it is missing or damaged.
    """
    from nni_robust.check import SettingError
    from nni_robust.command.comparison import compare
    from nni_robust.command.options import TargetOptions
    from nni_robust.command.target import targets

    if not directory.is_dir():
        raise SettingError(f"must be a folder of results, got {str(directory)!r}.", "directory")
    same = True
    for target in targets(TargetOptions(network=directory)):
        comparison = compare(target)
        print(comparison.text())
        same &= comparison.largest_difference <= _TOLERANCE
    print(
        "The accuracies are those on record."
        if same
        else "The accuracies differ from those on record."
    )
    return 0 if same else 1
