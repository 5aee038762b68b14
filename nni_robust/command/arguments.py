"""All commands of the command line, with their help and their arguments.

This module loads neither torch nor NNI, which take seconds, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

WRONG_INPUT = 2  # exit status

Add = Callable[..., Any]
"""``ArgumentParser.add_argument`` of a command's parser."""


def _validate(add: Add) -> None:
    """Check a settings file before anything is started.

    The file may be an experiment, for `nnictl create --config`, or the file of one search, training
    or attack. Nothing is trained, and no trial is started.
    """
    add("file", type=Path, help="experiment, or file of a search or training")


def _wait(add: Add) -> None:
    """Follow an experiment to its end.

    The exit status is 0 if the experiment came to its end, 1 if it failed, and 3 after a timeout.
    """
    add("id", nargs="?", help="identifier of the experiment (default: the newest)")
    add("--timeout", type=float, help="seconds after which to give up")


def _search(add: Add) -> None:
    """Run a whole one-shot search, or one trial that is such a search."""
    _add_job(add, "data, space, strategy and evaluator")


def _train(add: Add) -> None:
    """Train and test one network, or run one trial that does."""
    _add_job(add, "data, network and evaluator")


def _attack(add: Add) -> None:
    """Attack trained networks, also with images made on another network."""
    _add_job(add, "networks, target, source and evaluator")


def _evaluate(add: Add) -> None:
    """Attack networks with a suite of attacks, and record their accuracies.

    The tiers are quick (PGD-20), standard (PGD-100, MI-FGSM, DeepFool and two attacks of
    AutoAttack) and full (AutoAttack). To repeat the evaluation that a folder of results has on
    record, use verify.
    """
    _add_target(add)
    tiers = ["quick", "standard", "full"]
    add("--tier", choices=tiers, help="suite (default: quick); full is AutoAttack")
    add(
        "--attacks",
        help="suite in YAML instead of a tier, or a file of it: '[fgsm, {name: pgd, steps: 50}]'",
    )
    add("--limit", type=int, metavar="N", help="number of images (default: all)")
    add(
        "--keep-fooled",
        action="store_true",
        help="try every attack on all images, as in the papers' tables, and not only on those that "
        "no attack before it has fooled",
    )
    add("--sweep-epsilon", help="radii for PGD-20, such as 0,2/255,4/255,8/255")
    add("--sweep-steps", help="numbers of steps for PGD, such as 10,20,50,100")
    robustbench = "file for an entry in RobustBench; with --tier full"
    add("--robustbench", type=Path, metavar="FILE", help=robustbench)
    _add_run(add)


def _verify(add: Add) -> None:
    """Evaluate the networks in a folder of results again, and compare with the record.

    The conditions are those on record. A different accuracy gives exit status 1.
    """
    add("directory", metavar="DIR", help="folder of results, or of one network")


def _audit(add: Add) -> None:
    """Check whether an accuracy under attack can be trusted, by looking for masked gradients.

    A failed check gives exit status 1; warnings do not.
    """
    _add_target(add)
    add("--num-images", type=int, metavar="N", default=256, help=_with_default("number of images"))
    queries = _with_default("queries of Square, the attack without gradients")
    add("--queries", type=int, metavar="N", default=1000, help=queries)
    add(
        "--surrogate",
        help="another network, whose attacked images are tried: folder, name, or class",
    )
    add(
        "--surrogate-weights",
        type=Path,
        metavar="FILE",
        help="state dict of the surrogate, if it is not in a folder",
    )
    _add_run(add)


def _report(add: Add) -> None:
    """Print what searches and trainings have found.

    The results of examples/tables become the tables of the papers, with published and own figures
    in separate columns. The results of a search become a ranking of its candidates.
    """
    _add_directories(add)
    add("--table", help="one table, such as r-tab1 (default: all that have results)")
    formats = ["text", "csv", "json"]
    add("--format", choices=formats, default="text", help=_with_default("form of the tables"))
    add("--output", type=Path, help="file to write")
    add("--plot", help=argparse.SUPPRESS)  # the command `plot`, under its former name


def _plot(add: Add) -> None:
    """Draw a figure from the records of searches."""
    add("plot", metavar="name", help="density, convolutions, fsp, search or size")
    _add_directories(add)
    add("--output", type=Path, help="files to write, without .svg and .png (default: the name)")


def _draw(add: Add) -> None:
    """Draw the cells of a network."""
    add("network", help="published network, such as racl, or folder of results")
    add("--output", type=Path, help="files to write, without .svg and .png")


def _schema(add: Add) -> None:
    """Print every key of every settings file, with its type, default and description."""
    forms = ["json", "markdown"]
    text = _with_default("JSON Schema, or a page to read")
    add("--format", choices=forms, default="json", help=text)


def _trial(add: Add) -> None:
    """Run one trial; NNI's manager calls this."""
    add("--directory", help="folder of the results, as in the experiment's file")


COMMANDS: dict[str, Callable[[Add], None]] = {
    "validate": _validate,
    "wait": _wait,
    "search": _search,
    "train": _train,
    "attack": _attack,
    "evaluate": _evaluate,
    "verify": _verify,
    "audit": _audit,
    "report": _report,
    "plot": _plot,
    "draw": _draw,
    "schema": _schema,
    "trial": _trial,
}
"""Functions that add the arguments of each command; their docstrings are its help."""


class _Parser(argparse.ArgumentParser):
    """A parser that refuses wrong arguments in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_INPUT, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; ``command`` is the name of the command."""
    made = _Parser(prog="nni-robust", description="Find, evaluate and audit robust networks.")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, add_arguments in COMMANDS.items():
        description = inspect.cleandoc(str(add_arguments.__doc__))
        command = commands.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command.add_argument)
    return made


def _with_default(text: str) -> str:
    return f"{text} (default: %(default)s)"


def _add_directories(add: Add) -> None:
    add("directories", nargs="+", metavar="DIR", help="folders of results, at any depth")


def _add_job(add: Add, sections: str) -> None:
    add("file", type=Path, help=f"settings file with the sections {sections}")
    add("--directory", metavar="DIR", help="folder of the results (default: the file's, results)")
    add("--scale", help="one of the file's scales (default: full)")


def _add_target(add: Add) -> None:
    """Add which network is attacked, on which data, and under which threat model."""
    add(
        "network",
        help="folder of results, published or reference network, package.module:Class, or a "
        "mapping in YAML such as '{name: resnet18, width: 0.5}'",
    )
    weights = "state dict of a network not in a folder"
    add("--weights", type=Path, metavar="FILE", help=weights)
    add("--data", help="dataset, or YAML (default: the folder's, or cifar10)")
    add("--root", metavar="DIR", help="folder of the dataset's files")
    norm = "norm of the threat model (default: the folder's, or linf)"
    add("--norm", choices=["linf", "l2"], help=norm)
    add("--epsilon", help="radius, such as 8/255 (default: the folder's, or 8/255)")


def _add_run(add: Add) -> None:
    """Add how a network is attacked, and where the records are saved."""
    splits = ["train", "validation", "test"]
    add("--split", choices=splits, default="test", help=_with_default("images"))
    size = _with_default("images attacked at once")
    add("--batch-size", type=int, metavar="N", default=256, help=size)
    add("--seed", type=int, metavar="N", default=0, help=_with_default("seed of the attacks"))
    add("--device", default="auto", help=_with_default("auto, cpu, cuda or cuda:1"))
    output = "folder of records and plots, from which an interrupted run continues"
    add("--output", type=Path, metavar="DIR", help=output)
