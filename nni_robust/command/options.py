"""Options that commands share: fields of dataclasses, from which parsers are built."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nni_robust.check import SettingError, check_count, check_seed, one_line

if TYPE_CHECKING:
    import torch

Group = TypeVar("Group")


def option(
    text: str, *, read: Callable[[Any], Any] | None = None, **argparse_keywords: Any
) -> dict[str, Any]:
    """Return the metadata of a dataclass field that is an option of the command line.

    Parameters
    ----------
    text
        Its help.
    read
        Makes the value from what was typed; what it raises says what is wrong.
    **argparse_keywords
        As for ``ArgumentParser.add_argument``.
    """
    return {"help": text, "read": read, **argparse_keywords}


def add_options(parser: argparse.ArgumentParser, *groups: type) -> None:
    """Add the fields of option groups to a parser; a field without a default is positional."""
    for item in (item for group in groups for item in dataclasses.fields(group)):
        keywords = {key: value for key, value in item.metadata.items() if key != "read"}
        if item.default is dataclasses.MISSING:
            parser.add_argument(item.name, **keywords)
            continue
        if item.default is not None and "action" not in keywords:
            keywords["help"] += f" (default: {item.default})"
        flag = "--" + item.name.replace("_", "-")
        parser.add_argument(flag, default=item.default, **keywords)


def read_options(group: type[Group], given: argparse.Namespace) -> Group:
    """Build an option group from parsed arguments."""
    values = {}
    for item in dataclasses.fields(group):  # type: ignore[arg-type]
        value, read = getattr(given, item.name), item.metadata["read"]
        values[item.name] = value if read is None or value is None else read(value)
    return group(**values)


def read_yaml(text: str, name: str) -> Any:
    """Read YAML from an option; the name says which."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"must be YAML, got {text!r}: {one_line(error)}.", name) from error


def read_folder(text: str | Path, name: str = "DIR") -> Path:
    """Return a folder of results, which must exist."""
    if not str(text) or not Path(text).is_dir():
        raise SettingError(f"must be a folder of results, got {str(text)!r}.", name)
    return Path(text)


def read_network(text: str) -> Path | dict[str, Any]:
    """Return a folder of results, or else the section that describes a network."""
    if not text.strip():
        raise SettingError("must be a folder or the name of a network, got ''.", "network")
    return Path(text) if Path(text).is_dir() else _section(text, "network")


def read_data(text: str) -> dict[str, Any]:
    """Return the section that describes a dataset."""
    return _section(text, "--data")


def _section(text: str, name: str) -> dict[str, Any]:
    content = read_yaml(text, name) if text.lstrip().startswith("{") else {"name": text}
    if not isinstance(content, dict) or "name" not in content:
        raise SettingError(f"must be a mapping with a name, got {text!r}.", name)
    return content


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Which network is attacked, on which data, and under which threat model."""

    network: Path | dict[str, Any] = field(
        metadata=option(
            "folder of results, published or reference network, package.module:Class, or a mapping "
            "in YAML such as '{name: resnet18, width: 0.5}'",
            read=read_network,
        )
    )
    weights: Path | None = field(
        default=None,
        metadata=option("state dict of a network not in a folder", type=Path, metavar="FILE"),
    )
    data: dict[str, Any] | None = field(
        default=None,
        metadata=option("dataset, or YAML (default: the folder's, or cifar10)", read=read_data),
    )
    root: str | None = field(
        default=None, metadata=option("folder of the dataset's files", metavar="DIR")
    )
    norm: str | None = field(
        default=None,
        metadata=option(
            "norm of the threat model (default: the folder's, or linf)", choices=["linf", "l2"]
        ),
    )
    epsilon: str | None = field(
        default=None, metadata=option("radius, such as 8/255 (default: the folder's, or 8/255)")
    )

    def __post_init__(self) -> None:
        if isinstance(self.network, Path) and self.weights is not None:
            raise SettingError("must be left out: a folder of results has its own.", "--weights")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a network is attacked, and where the records are saved."""

    split: str = field(
        default="test", metadata=option("images", choices=["train", "validation", "test"])
    )
    batch_size: int = field(
        default=256, metadata=option("images attacked at once", type=int, metavar="N")
    )
    seed: int = field(default=0, metadata=option("seed of the attacks", type=int, metavar="N"))
    device: str = field(default="auto", metadata=option("auto, cpu, cuda or cuda:1"))
    output: Path | None = field(
        default=None,
        metadata=option(
            "folder of records and plots, from which an interrupted run continues",
            type=Path,
            metavar="DIR",
        ),
    )

    def __post_init__(self) -> None:
        check_count("--batch-size", self.batch_size)
        check_seed(self.seed, "--seed")
        if self.output is not None:
            check_place(self.output, "--output")

    @property
    def torch_device(self) -> torch.device:
        """The device; an unknown one raises a SettingError."""
        import torch

        from nni_robust.job.base import choose_device

        if self.device == "auto":
            return choose_device("auto")
        try:
            probe = torch.zeros(1, device=self.device)
            probe.item()  # not every device holds numbers
            return probe.device
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for it
            reason = one_line(str(error).splitlines()[0])
            raise SettingError(
                f"must be auto or a device of this machine, got {self.device!r}: {reason}",
                "--device",
            ) from error


def check_place(folder: Path, name: str) -> None:
    """Raise a SettingError if files cannot be written to a folder; the name says which option."""
    from nni_robust.results.files import check_writable

    check_writable(folder.absolute(), name)


def add_job_arguments(parser: argparse.ArgumentParser, sections: str) -> None:
    """Add the arguments of a command that carries out a settings file."""
    add = parser.add_argument
    add("file", type=Path, help=f"settings file with the sections {sections}")
    add("--directory", metavar="DIR", help="folder of the results (default: the file's, results)")
    add("--scale", help="one of the file's scales (default: full)")
