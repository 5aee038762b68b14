"""Supernet twins of the spaces' edges, and the loops that train them."""

from __future__ import annotations

from nni_robust.oneshot.path_sampling import (
    PathSamplingMultiOpEdge,
    PathSamplingOneShot,
    activate,
    as_supernet,
)

__all__ = ["PathSamplingMultiOpEdge", "PathSamplingOneShot", "activate", "as_supernet"]
