"""Min-max training: weights that minimise the loss of attacked images."""

from __future__ import annotations

from typing import Any, Literal

import nni
import pytorch_lightning as pl
import torch
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from nni_robust.attack import PGD, Attack
from nni_robust.training.averaging import WeightAverage
from nni_robust.training.carried_perturbation import CarriedPerturbation
from nni_robust.training.channels_last import put_channels_last
from nni_robust.training.cutout import cutout
from nni_robust.training.objective import Fast, Free
from nni_robust.training.overfitting_guard import OverfittingGuard
from nni_robust.training.recipe import Recipe
from nni_robust.training.replayed_data import Replayed, ReplayedData
from nni_robust.training.weight_perturbation import WeightPerturbation

_STATE = "adversarial_classification"


@nni.trace
class AdversarialClassificationModule(LightningModule):  # type: ignore[misc]  # NNI is untyped
    r"""Train a classifier on images that are attacked as they come.

    .. math:: \min_w \mathbb{E}_{(x, y)} \max_{\|x' - x\| \le \epsilon} \ell(f_w(x'), y)

    The attack sees the network just as it is trained: under a one-shot strategy of NNI's or of
    ours that is the subnetwork, or the mixture, that the strategy has set.

    Parameters
    ----------
    train_attack
        The inner maximisation, of which the recipe's objective makes what it needs; None trains on
        clean images.
    validation_attack
        Attack of the validation images; by default ``train_attack``.
    recipe
        Objective, optimiser and schedule. Averages of the weights, the guard of the objective
        ``fast`` and the replays of ``free`` are the work of :class:`AdversarialClassification`.
    attack_mode
        Mode of batch norm while the attack looks for its image: ``train``, as in the released
        code, normalises by the batch under attack; ``eval`` by the running statistics. The
        weights are always updated in training mode. The attack itself never moves running
        statistics, where the released code lets every one of its passes do so.
    seed
        Seed of the attack's random starts, and of what the recipe draws.

    Notes
    -----
    Logs ``train_loss``, ``train_robust`` (accuracy on the images trained on), ``val_clean`` and
    ``val_robust``, all fractions.
    """

    def __init__(
        self,
        *,
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        validation_attack: Attack | None = None,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        attack_mode: Literal["train", "eval"] = "train",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if attack_mode not in ("train", "eval"):
            raise ValueError(f"attack_mode must be 'train' or 'eval', got {attack_mode!r}.")
        objective = recipe.objective
        self.train_attack = objective.attack(train_attack)
        self.validation_attack = validation_attack or train_attack
        self.recipe = recipe
        self.attack_mode = attack_mode
        self._generator = torch.Generator().manual_seed(seed)
        self._weights = None if recipe.awp is None else WeightPerturbation(recipe.awp)
        self._carried: CarriedPerturbation | None = None
        if isinstance(objective, Free) and train_attack is not None:
            threat_model = train_attack.threat_model
            step_size = objective.step_share * threat_model.epsilon
            self._carried = CarriedPerturbation(threat_model, step_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, K)."""
        return self.model(x)  # type: ignore[no-any-return]

    def on_fit_start(self) -> None:
        """Lay the weights out for speed."""
        put_channels_last(self.model)

    def on_train_epoch_start(self) -> None:
        """Set the share of the paths that are dropped."""
        if not self.recipe.drop_path:
            return
        set_probability = getattr(self.model, "set_drop_path_prob", None)
        if set_probability is None:
            raise ValueError(
                "recipe.drop_path must be 0 for a network without set_drop_path_prob, such as a "
                f"{type(self.model).__name__}, got {self.recipe.drop_path!r}."
            )
        set_probability(self.recipe.drop_path * self._done)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of the recipe's objective."""
        x, y = batch
        if self.recipe.cutout:
            x = cutout(x, self.recipe.cutout, self._generator)
        x_adv = self._attacked(x, y)
        if self._weights is not None and self._done >= self.recipe.awp_warmup:
            self._weights.apply(self.model, lambda: self._loss(x, x_adv, y)[0])
        loss, logits = self._loss(x, x_adv, y)
        if not torch.isfinite(loss):
            self.on_after_backward()
            raise FloatingPointError(
                f"the training loss became {loss.item()} in epoch {self.trainer.current_epoch}. "
                "Lower the learning rate or clip gradients (recipe.max_norm)."
            )
        robust = (logits.argmax(1) == y).float().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("train_robust", robust, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def on_after_backward(self) -> None:
        """Put perturbed weights back, and move a perturbation that is carried along."""
        if self._weights is not None:
            self._weights.restore()
        if self._carried is not None:
            self._carried.move()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the accuracy on clean and on attacked images."""
        x, y = batch
        self.log("val_clean", (self(x).argmax(1) == y).float().mean(), prog_bar=True)
        if self.validation_attack is not None:
            x_adv = self.validation_attack(self.model, x, y, generator=self._generator)
            robust = (self(x_adv).argmax(1) == y).float().mean()
            self.log("val_robust", robust, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """Build SGD and its schedule by epochs."""
        optimizer = self.recipe.optimizer(self)
        factor = self.recipe.factor(self.trainer.max_epochs or 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the state of all that is drawn, and a perturbation that is carried along."""
        checkpoint[_STATE] = {
            "generator": self._generator.get_state(),
            "torch": torch.get_rng_state(),  # of networks that draw, as for dropout
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "delta": None if self._carried is None else self._carried.delta,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        state = checkpoint[_STATE]
        self._generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
        if self._carried is not None:
            self._carried.delta = state["delta"]

    @property
    def _done(self) -> float:
        """Share of the epochs that are behind."""
        return self.trainer.current_epoch / (self.trainer.max_epochs or 1)  # type: ignore[no-any-return]

    def _attacked(self, x: Tensor, y: Tensor) -> Tensor:
        if self._carried is not None:
            return self._carried.images(x)
        return x if self.train_attack is None else self._attack_in_mode(self.train_attack, x, y)

    def _loss(self, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        smoothing = self.recipe.label_smoothing
        if not self.recipe.auxiliary_weight:
            return self.recipe.objective.loss(self, x, x_adv, y, label_smoothing=smoothing)
        logits = self.model(x)
        if not isinstance(logits, tuple):
            raise ValueError(
                "recipe.auxiliary_weight must be 0 for a network without an auxiliary head, such "
                f"as a {type(self.model).__name__}, got {self.recipe.auxiliary_weight!r}."
            )
        main, auxiliary = (
            functional.cross_entropy(given, y, label_smoothing=smoothing) for given in logits
        )
        return main + self.recipe.auxiliary_weight * auxiliary, logits[0]

    def _attack_in_mode(self, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
        was_training = self.model.training
        if self.attack_mode == "eval":
            self.model.eval()
        try:
            return attack(self.model, x, y, generator=self._generator)
        finally:
            self.model.train(was_training)


class ReportToNNI(pl.Callback):  # type: ignore[misc]  # Lightning is untyped
    """Send the logged accuracies to NNI, where there is a trial to send them for.

    Every epoch gives an intermediate result: a dict with ``default`` (robust accuracy on
    validation images, or on training images where there are none), ``clean`` and ``loss``.

    Parameters
    ----------
    final
        Whether the end of the training gives the final result as well.
    """

    def __init__(self, *, final: bool = True) -> None:
        self.final = final

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report an intermediate result."""
        if nni.get_current_parameter() is not None:
            nni.report_intermediate_result(logged_metrics(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the final result."""
        if self.final and nni.get_current_parameter() is not None:
            nni.report_final_result(logged_metrics(trainer))


def logged_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """Read the last epoch's accuracies under the names that NNI's page shows.

    Where a guard has ended the training, they are those of the epoch whose weights it has put back.

    Returns
    -------
    dict
        ``default``, and ``clean`` and ``loss`` where they were logged.
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


@nni.trace
class AdversarialClassification(Lightning):  # type: ignore[misc]  # NNI is untyped
    """Evaluator that trains a network against an attack.

    Wrapped by an NNI one-shot strategy, it makes that strategy's search adversarial.

    Parameters
    ----------
    data
        A Lightning data module of images in [0, 1], such as those of :mod:`nni_robust.data`; or
        None, if the loaders are given.
    train_dataloaders, val_dataloaders
        Loaders of images and labels, where there is no data module.
    train_attack, validation_attack, recipe, attack_mode, seed
        See :class:`AdversarialClassificationModule`.
    max_epochs
        Length of the training.
    callbacks
        Further Lightning callbacks.
    **trainer_kwargs
        Passed on to Lightning's ``Trainer``.
    """

    def __init__(
        self,
        *,
        data: pl.LightningDataModule | None = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        train_attack: Attack | None = PGD(steps=7),  # noqa: B008  # an immutable value
        validation_attack: Attack | None = None,
        recipe: Recipe = Recipe(),  # noqa: B008  # an immutable value
        attack_mode: Literal["train", "eval"] = "train",
        seed: int = 0,
        max_epochs: int = 200,
        callbacks: list[pl.Callback] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        module = AdversarialClassificationModule(
            train_attack=train_attack,
            validation_attack=validation_attack,
            recipe=recipe,
            attack_mode=attack_mode,
            seed=seed,
        )
        if recipe.max_norm is not None:
            trainer_kwargs = {"gradient_clip_val": recipe.max_norm, **trainer_kwargs}
        if isinstance(recipe.objective, Free):
            replays = recipe.objective.replays
            data = None if data is None else ReplayedData(data, replays)
            if train_dataloaders is not None:
                train_dataloaders = Replayed(train_dataloaders, replays)
        trainer = Trainer(
            max_epochs=max_epochs,
            callbacks=[
                *_callbacks(recipe, train_attack, seed, module.train_attack),
                *([ReportToNNI()] if callbacks is None else callbacks),
            ],
            **trainer_kwargs,
        )
        super().__init__(
            module,
            trainer,
            train_dataloaders=train_dataloaders,
            val_dataloaders=val_dataloaders,
            datamodule=data,
        )


def _callbacks(
    recipe: Recipe, given: Attack | None, seed: int, attack: Attack | None
) -> list[pl.Callback]:
    """Build what a recipe asks of the training beside its steps; it runs before what measures."""
    callbacks: list[pl.Callback] = []
    if recipe.ema is not None:
        # Carried perturbations fit no other step: the attack stands in for them.
        resembling = given if isinstance(recipe.objective, Free) else attack
        callbacks.append(WeightAverage(recipe.ema, attack=resembling, seed=seed))
    if isinstance(recipe.objective, Fast) and given is not None and attack is not None:
        rise = recipe.objective.guard
        callbacks.append(OverfittingGuard(attack, given, rise=rise, seed=seed))
    return callbacks
