"""Callbacks of the trainings of a job: measure, report and save after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from numpy.random import RandomState

from nni_robust.atomic import replacing
from nni_robust.evaluator.report_to_nni import report_intermediate
from nni_robust.job.base import Metrics
from nni_robust.job.measure import Probe, Screen, mean_metrics
from nni_robust.oneshot.racl_module import RACLModule
from nni_robust.results.weights import save_weights
from nni_robust.space import reported, sampler_of

SHORT_NAMES = {
    "constraint": "c",
    "bound_mu": "mu",
    "bound_variance": "var",
    "dual": "dual",
    "entropy": "H",
    "sureness": "sure",
}
"""What a RACL search logs, and its names on NNI's page, which cuts long ones."""


class MeasurePerEpoch(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Measure after every epoch; log and report the metrics.

    Parameters
    ----------
    prefix
        Prefix of the metrics in the log.
    measure
        Maps the Lightning module to metrics.
    stage
        Stage of the search that reports them.
    """

    def __init__(
        self, prefix: str, measure: Callable[[Any], Metrics], stage: str = "candidate"
    ) -> None:
        self.prefix = prefix
        self.measure = measure
        self.stage = stage

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after an epoch."""
        metrics = self.measure(pl_module)
        pl_module.log_dict({f"{self.prefix}/{name}": value for name, value in metrics.items()})
        loss = float(trainer.callback_metrics["train_loss"])
        report_intermediate(reported(self.stage, {**metrics, "loss": loss}))


class SubnetworksPerEpoch(MeasurePerEpoch):
    """Measure the same random subnetworks before the training and after every epoch.

    Parameters
    ----------
    screen
        How. The subnetworks are sampled with the seed of its conditions.

    Attributes
    ----------
    last
        The latest means over the subnetworks, None before the first measurement.
    """

    def __init__(self, screen: Screen) -> None:
        super().__init__("subnetworks", lambda module: self.look(module.model), "supernet")
        self.screen = screen
        self.last: Metrics | None = None
        self._samples: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the untrained supernet."""
        if trainer.current_epoch == 0:
            report_intermediate(reported(self.stage, self.look(pl_module.model)))

    def look(self, supernet: ModelSpace) -> Metrics:
        """Return the mean accuracies of the subnetworks."""
        if not self._samples:
            sampler = sampler_of(supernet, RandomState(self.screen.conditions.seed))
            self._samples = [sampler.draw() for _ in range(self.screen.options.probe_networks)]
        networks = (self.screen.inherit(supernet, sample) for sample in self._samples)
        self.last = mean_metrics([self.screen.probe.measure(network) for network in networks])
        return self.last


class BestEpoch(MeasurePerEpoch):
    """Measure the network after every epoch and save the weights of the most robust one.

    Parameters
    ----------
    probe
        How.
    path
        File of the weights.

    Attributes
    ----------
    best, last
        Accuracy under attack of the best and of the last epoch, -1 before the first.
    epoch
        Number of the best epoch, from 0.
    """

    def __init__(self, probe: Probe, path: Path) -> None:
        super().__init__("validation", self._look)
        self.probe = probe
        self.path = path
        self.best = -1.0
        self.last = -1.0
        self.epoch = -1

    def _look(self, module: pl.LightningModule) -> Metrics:
        metrics = self.probe.measure(module.model)
        self.last = metrics["default"]
        if self.last > self.best:
            self.best, self.epoch = self.last, module.current_epoch
            save_weights(self.path, module.model)
        return {**metrics, "best": self.best}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"best": self.best, "last": self.last, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best = state_dict["best"]
        self.last = state_dict["last"]
        self.epoch = state_dict["epoch"]


class EpochCheckpoint(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Save the state of the training after every epoch: one file, replaced as a whole.

    Lightning's own callback writes a second file before it deletes the first. It writes through
    the system's temporary folder, so on another device the file is copied, not moved, and a
    crash can leave half of it.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state."""
        with replacing(self.path) as scratch:
            trainer.save_checkpoint(scratch)  # with several processes, the first writes


def look_at_supernet(probe: Probe, search: BaseOneShotLightningModule) -> Metrics:
    """Measure a supernet and, for RACL, read the state of its constraint.

    Returns
    -------
    dict
        ``default`` and ``clean``. For RACL also, in short words, ``c``, the constraint; ``mu``
        and ``var`` of the bound; ``dual``; ``H``, the entropy of the operations; ``sure``, the
        probability that the first operation outweighs the second; and the share of each
        operation.
    """
    metrics = probe.measure(search.model)
    if not isinstance(search, RACLModule):
        return metrics
    report = search.report()
    state = {short: report[name] for name, short in SHORT_NAMES.items() if name in report}
    shares = {n.removeprefix("share/"): v for n, v in report.items() if n.startswith("share/")}
    return {**metrics, **state, **shares}
