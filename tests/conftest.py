"""Settings for all tests."""

from __future__ import annotations

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores. With more threads than cores, threads that wait would spin.
    torch.set_num_threads(1)
