"""Checks of arguments and settings, and the error that says which setting is wrong.

A :class:`SettingError` is an error that the user can fix: a wrong argument, an unknown key, a
missing or damaged file. The command line prints it as one line. Every other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LARGEST_SEED = 2**32 - 1
"""numpy's largest seed; torch would take more."""


class SettingError(ValueError):
    """A setting that is not valid: what was expected, what came, and what to do.

    Parameters
    ----------
    problem
        The message without the key, such as ``must be at least 1, got 0.``
    *path
        Keys and list indices that lead to the setting, outermost first.

    Examples
    --------
    >>> error = SettingError("must be at least 1, got 0.", "steps")
    >>> str(error.under("evaluator", "test_attacks", 1))
    'evaluator.test_attacks[1].steps must be at least 1, got 0.'
    """

    def __init__(self, problem: str, *path: str | int) -> None:
        super().__init__(problem, *path)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return f"{join_path(*self.path)} {self.problem}" if self.path else self.problem

    def under(self, *keys: str | int) -> SettingError:
        """Return the same error, with its path below other keys."""
        return SettingError(self.problem, *keys, *self.path)


def join_path(*path: str | int) -> str:
    """Write a path as in messages.

    Examples
    --------
    >>> join_path("evaluator", "test_attacks", 1, "steps")
    'evaluator.test_attacks[1].steps'
    """
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


@contextmanager
def below(*keys: str | int) -> Iterator[None]:
    """Put keys before the path of every :class:`SettingError` that the block raises."""
    try:
        yield
    except SettingError as error:
        raise error.under(*keys) from error.__cause__


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Raise a SettingError unless the value is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(f"must be a whole number of at least {least}, got {value!r}.", name)


def check_seed(value: Any, name: str = "seed") -> None:
    """Raise a SettingError unless the value is a seed that numpy and torch both accept."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_SEED:
        raise SettingError(f"must be a whole number from 0 to 2^32 - 1, got {value!r}.", name)


def check_choice(name: str, value: Any, known: Collection[Any]) -> None:
    """Raise a SettingError unless the value is one of the known ones."""
    if value not in known:
        hint = did_you_mean(value, map(str, known))
        raise SettingError(f"must be one of {list(known)}, got {value!r}.{hint}", name)


def check_share(name: str, value: Any) -> None:
    """Raise a SettingError unless the value lies strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise SettingError(f"must lie strictly between 0 and 1, got {value!r}.", name)


def did_you_mean(name: Any, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the end of a message that suggests the most similar known name, or nothing.

    Examples
    --------
    >>> did_you_mean("epoch", ["epochs", "seed"]), did_you_mean("x", ["epochs", "seed"])
    (" Did you mean 'epochs'?", '')
    """
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def one_line(error: BaseException | str) -> str:
    r"""Return a message as one line.

    Examples
    --------
    >>> one_line("first,\n  second")
    'first, second'
    """
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Options:
    """Base of values whose fields are keys of the section that they belong to.

    A class with many arguments takes them in groups, each a dataclass derived from this one:
    ``RACL(constraint=ConstraintOptions(confidence=0.9))``. A settings file writes the fields
    directly: ``strategy: {name: racl, confidence: 0.9}``.
    """
