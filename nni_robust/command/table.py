"""Text tables of the command line."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from prettytable import PrettyTable

WIDTH = 100
"""Columns of a terminal that the output fits into."""

INDENT = 12
"""Columns of the name before an entry."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table without lines, the first columns on the left and the others on the right.

    Parameters
    ----------
    heads
        Names of the columns.
    rows
        Cells.
    left
        How many columns are aligned on the left.

    Examples
    --------
    >>> print(table(["accuracy", "test"], [["clean", "99.16 %"], ["pgd20", "86.63 %"]]))
    accuracy     test
    clean     99.16 %
    pgd20     86.63 %
    """
    made = PrettyTable(border=False, left_padding_width=0, right_padding_width=1)
    made.field_names = list(heads)
    for index, head in enumerate(heads):
        made.align[head] = "l" if index < left else "r"
    made.add_rows([list(row) for row in rows])
    return "\n".join(line.rstrip()[1:] for line in made.get_string().splitlines())


def entry(name: str, text: str) -> str:
    """Return a named line, continued below itself where it is too long.

    Examples
    --------
    >>> entry("Weights", "trained/final/resnet18/weights.pt")
    'Weights     trained/final/resnet18/weights.pt'
    """
    indent = " " * INDENT
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"{name:<{INDENT}}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def percent(accuracy: float) -> str:
    """Return a fraction as a percentage.

    Examples
    --------
    >>> percent(0.8663)
    '86.63 %'
    """
    return f"{100 * accuracy:.2f} %"
