"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch file that replaces a file when the block ends.

    Parameters
    ----------
    path
        The file to replace. Its folder is created if missing. The file is unchanged if the block
        raises an exception or writes nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        if scratch.exists():
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
