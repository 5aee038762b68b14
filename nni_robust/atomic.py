"""Files that are written whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write, which takes the place of another when the block ends.

    Parameters
    ----------
    path
        The file to be replaced; its folder is made. It stays as it is if the block raises, or
        writes nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        if scratch.exists():
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
