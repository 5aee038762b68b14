"""How figures become files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = {file: file.with_name(f"{file.name}.{os.getpid()}.tmp") for file in contents}
    try:
        for file, content in contents.items():
            scratch[file].write_bytes(content)
        for file in contents:
            scratch[file].replace(file)
    finally:
        for file in scratch.values():
            file.unlink(missing_ok=True)
    svg, png = contents
    return svg, png
