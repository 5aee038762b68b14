"""The Lightning module of adversarial training: what one step computes."""

from __future__ import annotations

from typing import Any, Literal

import nni
import torch
from nni.nas.evaluator.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional

from nni_robust.attack import PGD, Attack
from nni_robust.check import SettingError, check_choice
from nni_robust.network_state import evaluation_mode, put_channels_last
from nni_robust.training.cutout import cutout
from nni_robust.training.free_training import CarriedPerturbation
from nni_robust.training.objective import Free
from nni_robust.training.recipe import Recipe
from nni_robust.training.weight_perturbation import WeightPerturbation

_STATE = "adversarial_classification"  # its key in a checkpoint


@nni.trace
class AdversarialClassificationModule(LightningModule):  # type: ignore[misc]  # NNI is untyped
    r"""Train a classifier on images that are attacked in every step.

    .. math:: \min_w \mathbb{E}_{(x, y)} \max_{\|x' - x\| \le \epsilon} \ell(f_w(x'), y)

    The attack sees the network exactly as it is trained. Under a one-shot strategy, NNI's or ours,
    this is the subnetwork or the mixture that the strategy has set.

    Parameters
    ----------
    train_attack
        The inner maximisation, adapted by the recipe's objective; None trains on clean images.
    validation_attack
        Attack of the validation images, by default ``train_attack``.
    recipe
        Objective, optimiser and schedule. Weight averaging, the guard of the objective ``fast`` and
        the replays of ``free`` are not part of a step;
        :class:`nni_robust.evaluator.AdversarialClassification` adds them.
    attack_mode
        Mode of batch norm during the attack. ``train``, as in the released code, normalises by the
        attacked batch; ``eval`` normalises by the running statistics. The weights are always
        updated in training mode. The attack never changes running statistics, whereas in the
        released code each of its passes does.
    seed
        Seed of the attack's random starts and of everything that the recipe draws.

    Notes
    -----
    Logs ``train_loss``, ``train_robust`` (accuracy on the training images as attacked),
    ``val_clean`` and ``val_robust``. Accuracies are fractions.
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
        check_choice("attack_mode", attack_mode, ("train", "eval"))
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
        """Choose the faster memory layout for the weights."""
        put_channels_last(self.model)

    def on_train_epoch_start(self) -> None:
        """Set the probability that a path is dropped."""
        if not self.recipe.drop_path:
            return
        set_probability = getattr(self.model, "set_drop_path_prob", None)
        if set_probability is None:
            raise SettingError(
                "must be 0 for a network without set_drop_path_prob, such as a "
                f"{type(self.model).__name__}, got {self.recipe.drop_path!r}.",
                "recipe",
                "drop_path",
            )
        set_probability(self.recipe.drop_path * self._progress)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of the recipe's objective."""
        x, y = batch
        if self.recipe.cutout:
            x = cutout(x, self.recipe.cutout, self._generator)
        x_adv = self._attacked(x, y)
        if self._weights is not None and self._progress >= self.recipe.awp_warmup:
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
        """Restore perturbed weights, and move a carried perturbation."""
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
        """Return SGD and its learning rate per epoch."""
        optimizer = self.recipe.optimizer(self)
        factor = self.recipe.factor(self.trainer.max_epochs or 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store all random states and the carried perturbation."""
        checkpoint[_STATE] = {
            "generator": self._generator.get_state(),
            "torch": torch.get_rng_state(),  # for networks that draw, such as those with dropout
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "delta": None if self._carried is None else self._carried.delta,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore all random states and the carried perturbation."""
        state = checkpoint[_STATE]
        self._generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
        if self._carried is not None:
            self._carried.delta = state["delta"]

    @property
    def _progress(self) -> float:
        """Fraction of the epochs that are finished."""
        return self.trainer.current_epoch / (self.trainer.max_epochs or 1)  # type: ignore[no-any-return]

    def _attacked(self, x: Tensor, y: Tensor) -> Tensor:
        if self._carried is not None:
            return self._carried.images(x)
        if self.train_attack is None:
            return x
        if self.attack_mode == "train":
            return self.train_attack(self.model, x, y, generator=self._generator)
        with evaluation_mode(self.model):
            return self.train_attack(self.model, x, y, generator=self._generator)

    def _loss(self, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        smoothing = self.recipe.label_smoothing
        if not self.recipe.auxiliary_weight:
            return self.recipe.objective.loss(self, x, x_adv, y, label_smoothing=smoothing)
        logits = self.model(x)
        if not isinstance(logits, tuple):
            raise SettingError(
                "must be 0 for a network without an auxiliary head, such as a "
                f"{type(self.model).__name__}, got {self.recipe.auxiliary_weight!r}.",
                "recipe",
                "auxiliary_weight",
            )
        main, auxiliary = (
            functional.cross_entropy(each, y, label_smoothing=smoothing) for each in logits
        )
        return main + self.recipe.auxiliary_weight * auxiliary, logits[0]
