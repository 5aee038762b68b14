"""Write figures to files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from nni_robust.atomic import replacing
from nni_robust.check import SettingError


def save_figure(path: Path, draw: Callable[[], Figure]) -> tuple[Path, Path]:
    """Write a figure to an SVG and a PNG file.

    The same drawing gives the same bytes, independent of the user's settings of matplotlib. Both
    are rendered before a file is touched, and each file is replaced as a whole.

    Parameters
    ----------
    path
        The files without their suffix. Missing folders are created.
    draw
        Returns the figure.

    Returns
    -------
    svg, png
        The files written.
    """
    if not path.name:
        raise SettingError(f"must name files, got {str(path)!r}.", "--output")
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
