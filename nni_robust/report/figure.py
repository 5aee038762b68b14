"""How figures become files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nni_robust.atomic import replacing

if TYPE_CHECKING:  # matplotlib is loaded by the first figure
    from matplotlib.figure import Figure


def save_figure(path: Path, draw: Callable[[], Figure]) -> tuple[Path, Path]:
    """Write a figure as SVG and as PNG.

    What is drawn alike gives the same bytes, whatever the user's own settings of matplotlib are.
    Both are rendered before the first file is touched, and a file is replaced whole.

    Parameters
    ----------
    path
        The files without their suffix. Folders that are missing are made.
    draw
        Makes the figure.

    Returns
    -------
    svg, png
        The files written.
    """
    from matplotlib import style

    contents = {}
    with style.context(["default", {"svg.hashsalt": "nni_robust", "svg.fonttype": "path"}]):
        figure = draw()
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], dpi=200, metadata=metadata)
            contents[path.with_name(path.name + suffix)] = buffer.getvalue()
    with contextlib.ExitStack() as both:
        for file, content in contents.items():
            both.enter_context(replacing(file)).write_bytes(content)
    svg, png = contents
    return svg, png
