"""Compare the time of a search step with and without the Lipschitz constraint.

Run ``OMP_NUM_THREADS=1 python benchmarks/bound_cost.py``. Steps with and without the constraint
alternate. A step consists of one architecture step and one weight step, on synthetic images. The
time of the constraint includes the bound, its gradient, the dual step and a fiftieth of the time to
measure the Lipschitz constants of all operations, which a search does every 50 steps.

Last figures: one thread of a machine shared with other work, torch 2.13.0+cpu; the third case was
not measured.

    examples/racl_search.yml     step  413 ms, constraint  2.4 ms (0.6 %), measuring all  15 ms
    8 cells of width 16, K = 4   step 1214 ms, constraint 11.4 ms (0.9 %), measuring all  28 ms
"""

from __future__ import annotations

import logging
import platform
import time
import warnings
from statistics import median
from typing import Any

import nni.nas.strategy  # noqa: F401  # before NNI's one-shot strategies
import pytorch_lightning as pl
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace

from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.oneshot import LoopOptions
from nni_robust.space import RACLSpace
from nni_robust.strategy import RACL
from nni_robust.training import Recipe

REFRESH_EVERY = 50
CASES: list[tuple[str, dict[str, int], int, int, int]] = [  # name, space, pixels, batch, steps
    ("examples/racl_search.yml", {"num_cells": 3, "width": 8, "partial_channels": 2}, 8, 64, 60),
    ("8 cells of width 16, K = 4", {"num_cells": 8, "width": 16, "partial_channels": 4}, 8, 64, 30),
    ("the same, CIFAR-10", {"num_cells": 8, "width": 16, "partial_channels": 4}, 32, 32, 4),
]


class Turns(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Remove the constraint in every second step, and time all steps."""

    def __init__(self) -> None:
        self.times: dict[bool, list[float]] = {True: [], False: []}
        self.refresh: list[float] = []
        self._lagrangian: Any = None

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Switch the constraint on or off and start the clock."""
        self._lagrangian = self._lagrangian or module.admm.lagrangian
        module.admm.lagrangian = self._lagrangian if batch_idx % 2 else None
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, then time one measurement of all operations."""
        if batch_idx > 3:  # the first steps also measure the operations
            self.times[bool(batch_idx % 2)].append(time.perf_counter() - self._start)
        start = time.perf_counter()
        module.bound.refresh()
        self.refresh.append(time.perf_counter() - start)


def share(space: dict[str, int], size: int, batch: int, steps: int) -> tuple[float, float, float]:
    """Return the seconds of a step without constraint, of the constraint, of one measurement."""
    data = Synthetic(
        image_shape=(3, size, size),
        num_examples=4 * steps * batch,
        batch_size=batch,
        validation_split=0.5,
    )
    turns = Turns()
    strategy = RACL(loop=LoopOptions(warmup_epochs=0, refresh_every=10**9))
    evaluator = AdversarialClassification(
        train_dataloaders=data.train_dataloader(),
        val_dataloaders=data.architecture_dataloader(),
        train_attack=None,
        recipe=Recipe(),
        max_epochs=1,
        callbacks=[turns],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        limit_val_batches=0,
    )
    network = RawFormatModelSpace(RACLSpace(**space), evaluator)
    strategy.initialize(network, SequentialExecutionEngine()).execute()
    with_constraint, without = median(turns.times[True]), median(turns.times[False])
    refresh = median(turns.refresh[1:])
    return without, with_constraint - without + refresh / REFRESH_EVERY, refresh


def main() -> None:
    """Print one line per case."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    print(f"{platform.processor()}, Python {platform.python_version()}, torch {torch.__version__}")
    for name, space, size, batch, steps in CASES:
        step, extra, refresh = share(space, size, batch, steps)
        print(
            f"{name:28} batch {batch:3} of {size:2}x{size:<2}  step {1e3 * step:7.1f} ms, "
            f"constraint {1e3 * extra:5.2f} ms ({100 * extra / (step + extra):4.1f} %), "
            f"measuring all operations {1e3 * refresh:5.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
