"""One trial of the strategy host: read the task, do it, report once."""

from __future__ import annotations

import logging
import os
import warnings

import nni
import torch

from nni_robust.experiment.config import build_search
from nni_robust.experiment.task import Task, read_task
from nni_robust.space import STAGE

_logger = logging.getLogger(__name__)

_ALONE = ("supernet", "final")  # stages of which one trial runs at a time


def run_trial() -> None:
    """Do what NNI's manager asks this process for."""
    task = read_task(nni.get_next_parameter())
    torch.set_num_threads(_threads(task))
    _quieten()
    search = build_search(task.settings, directory=task.directory)
    model = search.executable().freeze(task.sample)
    model.execute()


def _threads(task: Task) -> int:
    cores = len(os.sched_getaffinity(0))
    sharing = 1 if task.sample.get(STAGE) in _ALONE else task.concurrency
    return max(1, cores // sharing)


def _quieten() -> None:
    for name in ("pytorch_lightning", "onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning advises on data loaders with workers; ours hold the images in memory.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*is found to be not a nn.Module.*")
