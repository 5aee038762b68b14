"""Draw the cells of a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_robust.check import SettingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("network", help="published network, such as racl, or folder of results")
    add("--output", type=Path, help="files to write, without .svg and .png")


def run(given: argparse.Namespace) -> int:
    """Run the command, and return its exit status."""
    from nni_robust.results.drawing import draw

    if not given.network:
        raise SettingError("must be a folder of results or a published network, got ''.", "network")
    for path in draw(given.network, given.output):
        print(path)
    return 0
