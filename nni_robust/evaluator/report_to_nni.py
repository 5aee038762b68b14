"""Metrics that are reported to NNI, if there is a trial to report them for."""

from __future__ import annotations

from typing import Any

import nni
import pytorch_lightning as pl

from nni_robust.training.overfitting_guard import OverfittingGuard


def report_intermediate(metrics: dict[str, Any]) -> None:
    """Report an intermediate result to NNI; do nothing outside a trial."""
    if nni.get_current_parameter() is not None:
        nni.report_intermediate_result(metrics)


def report_final(metrics: dict[str, Any]) -> None:
    """Report the final result to NNI; do nothing outside a trial."""
    if nni.get_current_parameter() is not None:
        nni.report_final_result(metrics)


class ReportToNNI(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Report the logged accuracies to NNI after every epoch.

    See :func:`logged_metrics` for what is reported.

    Parameters
    ----------
    final
        Whether the end of the training also reports the final result.
    """

    def __init__(self, *, final: bool = True) -> None:
        self.final = final

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report an intermediate result."""
        report_intermediate(logged_metrics(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the final result."""
        if self.final:
            report_final(logged_metrics(trainer))


def logged_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """Return the last epoch's metrics under the names that NNI's page shows.

    If a guard has ended the training, they are those of the epoch whose weights were restored.

    Returns
    -------
    dict
        ``default``, the robust accuracy on validation images, or on training images if there is no
        validation; ``clean`` and ``loss`` if they were logged.
    """
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for callback in trainer.callbacks:
        if isinstance(callback, OverfittingGuard) and callback.collapsed is not None:
            logged = callback.metrics
    default = next(
        (logged[name] for name in ("val_robust", "val_clean", "train_robust") if name in logged),
        0.0,
    )
    names = {"clean": "val_clean", "loss": "train_loss"}
    shown = {key: logged[name] for key, name in names.items() if name in logged}
    return {"default": default, **shown}
