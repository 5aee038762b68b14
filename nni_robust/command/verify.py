"""Evaluate the networks in a folder of results again, and compare with the record.

The conditions are those on record. A different accuracy gives exit status 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_robust.command.options import TargetOptions, read_folder

_TOLERANCE = 1e-9  # on the same images and attacks, only rounding may differ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("directory", metavar="DIR", help="folder of results, or of one network")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    return verify(read_folder(given.directory))


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
    from nni_robust.command.comparison import compare
    from nni_robust.command.target import targets

    same = True
    for target in targets(TargetOptions(network=directory)):
        comparison = compare(target)
        print(comparison.text())
        same &= comparison.largest_difference <= _TOLERANCE
    print(f"The accuracies {'are' if same else 'differ from'} those on record.")
    return 0 if same else 1
