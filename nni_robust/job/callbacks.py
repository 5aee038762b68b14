"""What is seen of a training while it runs."""

from __future__ import annotations

from typing import Any

import nni
import pytorch_lightning as pl
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from numpy.random import RandomState

from nni_robust.job.measure import Measure, Metrics
from nni_robust.oneshot.racl_module import RACLModule
from nni_robust.space import sampler_of

SHORT_NAMES = {
    "constraint": "c",
    "bound_mu": "mu",
    "bound_variance": "var",
    "dual": "dual",
    "entropy": "H",
    "sureness": "sure",
}
"""What a RACL search logs, and its names on NNI's page."""


def mean_metrics(measured: list[Metrics]) -> Metrics:
    """Average each of the metrics over several networks."""
    return {name: sum(m[name] for m in measured) / len(measured) for name in measured[0]}


def report_intermediate(metrics: Metrics) -> None:
    """Send an intermediate result to NNI, where there is a trial to send it for."""
    if nni.get_current_parameter() is not None:
        nni.report_intermediate_result(metrics)


class SubnetworkProbe(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Measure the same few random subnetworks before the training and after every epoch.

    Parameters
    ----------
    measure
        How; the subnetworks are drawn from its seed.
    num_networks
        How many.

    Attributes
    ----------
    last
        The latest averages, None before the first.
    """

    def __init__(self, measure: Measure, num_networks: int) -> None:
        self.measure = measure
        self.num_networks = num_networks
        self.last: Metrics | None = None
        self._samples: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the untrained supernet."""
        if trainer.current_epoch == 0:
            report_intermediate(self.look(pl_module.model))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after an epoch."""
        metrics = {**self.look(pl_module.model), "loss": _loss(trainer)}
        pl_module.log_dict({f"subnetworks/{name}": value for name, value in metrics.items()})
        report_intermediate(metrics)

    def look(self, supernet: ModelSpace) -> Metrics:
        """Average the accuracies of the subnetworks, with batch-norm statistics of their own."""
        if not self._samples:
            sampler = sampler_of(supernet, RandomState(self.measure.seed))
            self._samples = [sampler.draw() for _ in range(self.num_networks)]
        networks = (self.measure.inherit(supernet, sample) for sample in self._samples)
        self.last = mean_metrics([self.measure.quick(network) for network in networks])
        return self.last


class RobustnessPerEpoch(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Measure the network in training after every epoch.

    Parameters
    ----------
    measure
        How.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after an epoch."""
        metrics = {**self.measure.quick(pl_module.model), "loss": _loss(trainer)}
        pl_module.log_dict({f"validation/{name}": value for name, value in metrics.items()})
        report_intermediate(metrics)


class SupernetPerEpoch(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Measure a supernet after every epoch, and report how its search stands.

    Parameters
    ----------
    measure
        How.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after an epoch."""
        metrics = self.look(pl_module)
        pl_module.log_dict({f"supernet/{name}": metrics[name] for name in ("default", "clean")})
        report_intermediate({**metrics, "loss": _loss(trainer)})

    def look(self, search: BaseOneShotLightningModule) -> Metrics:
        """Give the accuracies of the supernet, and for RACL the state of its constraint.

        Returns
        -------
        dict
            Words are short, since NNI's page cuts off long ones: ``c``, the constraint; ``mu``
            and ``var`` of the bound; ``dual``; ``H``, the entropy of the operations; ``sure``, the
            probability that the first outweighs the second; and the share of every operation.
        """
        metrics = self.measure.quick(search.model)
        if not isinstance(search, RACLModule):
            return metrics
        report = search.report()
        state = {short: report[name] for name, short in SHORT_NAMES.items() if name in report}
        shares = {n.removeprefix("share/"): v for n, v in report.items() if n.startswith("share/")}
        return {**metrics, **state, **shares}


def _loss(trainer: pl.Trainer) -> float:
    return float(trainer.callback_metrics["train_loss"])
