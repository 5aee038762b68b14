"""What all tests share."""

from __future__ import annotations

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers that share cores must not share threads: those that wait would spin.
    torch.set_num_threads(1)
