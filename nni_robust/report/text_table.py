"""Plain-text tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from prettytable import PrettyTable

TERMINAL_WIDTH = 100
"""Columns of the terminal that tables are written for."""


def text_table(
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    min_widths: Mapping[int, int] | None = None,
    max_widths: Mapping[int, int] | None = None,
) -> str:
    r"""Return rows as text with aligned columns, without borders.

    Parameters
    ----------
    rows
        Cells of each row, headings included. A cell may have several lines.
    right
        Indices of the columns that are aligned to the right.
    min_widths
        Smallest width by index of the column.
    max_widths
        Largest width by index of the column; longer lines are wrapped.

    Examples
    --------
    >>> print(text_table([["attack", "fooled"], ["pgd20", "7"]], right=[1]))
    attack  fooled
    pgd20        7
    """
    names = [str(i) for i in range(len(rows[0]))]
    table = PrettyTable(names, header=False, border=False)
    table.left_padding_width, table.right_padding_width = 0, 2
    for i, name in enumerate(names):
        table.align[name] = "r" if i in right else "l"
    table.min_width = {str(i): width for i, width in (min_widths or {}).items()}
    table.max_width = {str(i): width for i, width in (max_widths or {}).items()}
    table.add_rows([list(row) for row in rows])
    return "\n".join(line.rstrip() for line in table.get_string().split("\n"))


def percent(share: float) -> str:
    """Return a fraction as a percentage.

    Examples
    --------
    >>> percent(0.8663)
    '86.63 %'
    """
    return f"{100 * share:.2f} %"
