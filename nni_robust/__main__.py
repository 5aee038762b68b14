"""``python -m nni_robust``: the command line."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Exit statuses: 0 as asked, 1 the experiment, the comparison or a check failed, 2 wrong input,
# 3 time out, 130 interrupted, 143 terminated.
_WRONG_INPUT = 2
_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = _parser().parse_args(arguments)
    # NNI warns of every class that is newer than itself, to no use.
    warnings.filterwarnings("ignore", ".*is found to be not a nn.Module")
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"nni_robust {options.name}: {error}", file=sys.stderr)
        return _WRONG_INPUT
    except KeyboardInterrupt:
        print(f"nni_robust {options.name}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except SystemExit as end:
        # Lightning lets a terminated training end without a status, and NNI takes it for a success.
        if end.code is not None:
            raise
        return _TERMINATED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nni_robust", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)

    validate = commands.add_parser("validate", help="check an experiment file before NNI sees it")
    validate.add_argument("file", type=Path, help="what `nnictl create --config` would read")
    validate.set_defaults(command=_validate)

    wait = commands.add_parser("wait", help="follow an experiment to its end")
    wait.add_argument("id", nargs="?", help="its identifier; by default the newest one")
    wait.add_argument("--timeout", type=float, help="seconds after which to give up (status 3)")
    wait.set_defaults(command=_wait)

    _add_evaluate(commands.add_parser("evaluate", help="attack a network, or check a record"))
    _add_audit(commands.add_parser("audit", help="look for masked gradients in a network"))

    search = commands.add_parser("search", help="do a whole one-shot search, or be a trial of it")
    search.add_argument("file", type=Path, help="its sections: data, space, strategy, evaluator")
    _add_trial(search)
    search.set_defaults(command=_search)

    train = commands.add_parser("train", help="train one network and test it, or be a trial of it")
    train.add_argument("file", type=Path, help="its sections: data, network, evaluator")
    _add_trial(train)
    train.set_defaults(command=_train)

    attack = commands.add_parser("attack", help="attack networks that `train` has left")
    attack.add_argument("file", type=Path, help="its sections: networks, target, source, evaluator")
    _add_trial(attack)
    attack.set_defaults(command=_attack)

    _add_report(commands.add_parser("report", help="print the papers' tables with our figures"))

    draw = commands.add_parser("draw", help="draw the cells of a network")
    draw.add_argument("network", help="a published network, such as `racl`, or a folder of results")
    draw.add_argument("--output", type=Path, help="files to write, without .svg and .png")
    draw.set_defaults(command=_draw)

    trial = commands.add_parser("trial", help="run one trial; NNI's manager calls this")
    trial.add_argument("--directory", help="as in the experiment's file, where it is set there")
    trial.set_defaults(command=_trial)
    return parser


def _add_trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", help="folder of the results")
    parser.add_argument("--scale", help="one of the file's scales (full)")


def _add_report(report: argparse.ArgumentParser) -> None:
    report.description = "Print tables of the papers, published and own figures in own columns."
    add = report.add_argument
    add("directories", nargs="+", type=Path, metavar="DIR", help="folders of results, at any depth")
    add("--table", help="one table, such as r-tab1 (all that there are results of)")
    add("--format", choices=["text", "csv", "json"], default="text", help="of the tables (text)")
    add("--plot", help="draw instead: density, convolutions, fsp, search or size")
    add("--output", type=Path, help="file to write; of a plot without .svg and .png")
    report.set_defaults(command=_report)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.description = (
        "Attack a network. The folder of a search's results alone, without any option, has its "
        "chosen networks attacked as on record; another result gives exit status 1."
    )
    _add_network(evaluate)
    add = evaluate.add_argument
    add("--limit", type=int, help="number of images (all)")
    add("--tier", choices=["quick", "standard", "full"], help="suite (quick); full is AutoAttack")
    add("--attacks", help="suite in YAML or a file of it: '[fgsm, {name: pgd, steps: 50}]'")
    add(
        "--keep-fooled",
        action="store_const",
        const=True,
        help="show every attack all images, as in the papers' tables",
    )
    add("--output", type=Path, help="folder of records and plots; a stopped run goes on from it")
    add("--robustbench", type=Path, help="file for RobustBench's entry; with --tier full")
    add("--sweep-epsilon", help="radii for PGD-20, such as 0,2/255,4/255,8/255")
    add("--sweep-steps", help="numbers of steps for PGD, such as 10,20,50,100")
    evaluate.set_defaults(command=_evaluate)


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.description = (
        "Check whether an accuracy under attack is to be believed. A check that fails gives exit "
        "status 1; warnings do not."
    )
    _add_network(audit)
    add = audit.add_argument
    add("--num-images", type=int, default=256, help="number of images (256)")
    add("--queries", type=int, help="of Square, which sees no gradient (1000)")
    add("--surrogate", help="network whose attacked images are tried: folder, name, or class")
    add("--surrogate-weights", type=Path, help="its state dict, if it is not in a folder")
    add("--output", type=Path, help="folder of records")
    audit.set_defaults(command=_audit)


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add what says which network meets which images, and under which threat model."""
    add = parser.add_argument
    add("what", help="folder, published or reference network, package.module:Class, or YAML")
    add("--weights", type=Path, help="state dict of a network that is not in a folder")
    add("--data", help="dataset, or YAML; by default that of the search, or cifar10")
    add("--root", help="folder of the dataset's files")
    add("--split", choices=["train", "validation", "test"], help="images (test)")
    add("--norm", choices=["linf", "l2"], help="of the threat model (the search's, or linf)")
    add("--epsilon", help="radius, such as 8/255 (the search's, or 8/255)")
    add("--batch-size", type=int, help="images attacked at once (256)")
    add("--seed", type=int, help="of the attacks (0)")
    add("--device", help="auto, cpu, cuda or cuda:1 (auto)")


def _validate(options: argparse.Namespace) -> int:
    from nni_robust.command.validate import validate

    try:
        print(f"{options.file}: {validate(options.file)}")
    except ValueError as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return _WRONG_INPUT
    return 0


def _wait(options: argparse.Namespace) -> int:
    from nni_robust.manager.experiments import find_experiment
    from nni_robust.manager.follow import follow

    experiment = find_experiment(options.id)
    print(f"experiment {experiment.id}: http://localhost:{experiment.port}", file=sys.stderr)
    outcome = follow(experiment, timeout=options.timeout)
    print(outcome.message)
    if outcome.results is not None:
        print(f"results: {outcome.results}")
    return outcome.exit_status


def _evaluate(options: argparse.Namespace) -> int:
    from nni_robust.command.evaluate import Request, evaluate
    from nni_robust.command.verify import compare

    given = _given(options)
    if set(given) == {"what"} and Path(options.what).is_dir():
        return compare(Path(options.what))
    evaluate(Request(**given))
    return 0


def _audit(options: argparse.Namespace) -> int:
    from nni_robust.command.audit import audit
    from nni_robust.command.evaluate import Request

    given = _given(options)
    apart = {
        name: given.pop(name)
        for name in ("queries", "surrogate", "surrogate_weights")
        if name in given
    }
    records = audit(Request(limit=given.pop("num_images"), **given), **apart)
    return int(any(record.details["audit"]["verdict"] == "fail" for record in records))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Take the options that are given; the others have their defaults where they are used."""
    return {
        name: value
        for name, value in vars(options).items()
        if value is not None and name not in ("name", "command")
    }


def _search(options: argparse.Namespace) -> int:
    from nni_robust.manager.trial import run_search

    return _print_metrics(run_search(options.file, options.directory, options.scale))


def _train(options: argparse.Namespace) -> int:
    from nni_robust.manager.trial import run_training

    return _print_metrics(run_training(options.file, options.directory, options.scale))


def _attack(options: argparse.Namespace) -> int:
    from nni_robust.manager.trial import run_attack

    return _print_metrics(run_attack(options.file, options.directory, options.scale))


def _report(options: argparse.Namespace) -> int:
    from nni_robust.command.report import plot, report

    if options.plot is not None:
        for path in plot(options.directories, options.plot, options.output):
            print(path)
        return 0
    text = report(options.directories, options.table, options.format)
    if options.output is not None:
        options.output.write_text(f"{text}\n")
    else:
        print(text)
    return 0


def _print_metrics(metrics: dict[str, float]) -> int:
    from nni_robust.manager.trial import in_trial

    if not in_trial():
        print("\n".join(f"{name:<14}{value:>10.4f}" for name, value in metrics.items()))
    return 0


def _draw(options: argparse.Namespace) -> int:
    from nni_robust.results.drawing import draw

    for path in draw(options.network, options.output):
        print(path)
    return 0


def _trial(options: argparse.Namespace) -> int:
    from nni_robust.manager.trial import run_trial

    run_trial(options.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
