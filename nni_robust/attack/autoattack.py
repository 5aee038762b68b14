"""The four attacks of AutoAttack, with the settings of its standard version."""

from __future__ import annotations

import abc
import contextlib
import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nni_robust.attack.attack import Attack
from nni_robust.attack.loss import check_has_rivals
from nni_robust.check import SettingError, check_count

_STEPS = 100
_TARGETS = 9  # number of target classes: the most likely ones after the first
_NORMS = {"linf": "Linf", "l2": "L2"}
_SMALLEST_IN_L2 = 5  # height and width in pixels: in l_2, Square divides an image into fifths
# Not in the tree of loggers, so that the library's remarks about gradients are not printed.
_SILENCE = logging.Logger("pyautoattack", logging.CRITICAL + 1)


@dataclass(frozen=True, kw_only=True)
class AutoAttackPart(Attack):
    """An attack of AutoAttack, run by the library ``pyautoattack``.

    It computes in float32, on the device of the images. Random starts depend on the seed of the
    generator, not on its state: AutoAttack uses the same seed for every batch. An image that
    remains correctly classified is returned unchanged or perturbed within the threat model.

    Parameters
    ----------
    threat_model
        What the adversary may do.

    Raises
    ------
    SettingError
        If ``pyautoattack`` is not installed.

    Notes
    -----
    Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks*, 2020.
    """

    def __post_init__(self) -> None:
        if importlib.util.find_spec("pyautoattack") is None:
            raise SettingError(
                f"{self.name!r} needs pyautoattack, which is not installed. "
                "Run pip install 'nni_robust[eval]'.",
                "name",
            )

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        def predict(images: Tensor) -> Tensor:
            logits: Tensor = network(images.to(x.dtype)).float()
            # If the logits do not depend on the image, their gradient must be 0, not an error.
            return logits + 0 * images.flatten(1).sum(1, keepdim=True)

        with _without_weight_gradients(network), _other_devices_left_as_found():
            with torch.no_grad():
                logits = predict(x)
            check_has_rivals(logits)
            part = self._part(predict, x, logits.shape[1], seed=generator.initial_seed())
            found: Tensor = part.perturb(x.float().contiguous(), y).detach()
        # FAB divides by the gradient and counts an image of NaN as a success.
        usable = found.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
        return torch.where(usable, found.to(x.dtype), x)

    @abc.abstractmethod
    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        """Return the library's attack, an object with a method ``perturb``."""

    def _arguments(self, predict: Callable[[Tensor], Tensor], seed: int) -> dict[str, Any]:
        """Return the arguments that all attacks of the library take."""
        return {
            "predict": predict,
            "norm": _NORMS[self.threat_model.norm],
            "eps": self.threat_model.epsilon,
            "n_restarts": 1,
            "seed": seed,
        }


@dataclass(frozen=True, kw_only=True)
class APGD_CE(AutoAttackPart):  # noqa: N801  # the usual spelling, also in records
    """Maximise the cross-entropy by steps of adaptive size, from a random start.

    Parameters
    ----------
    threat_model
        As for :class:`Attack`.
    """

    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        attack = _library("autopgd_base").APGDAttack
        return attack(**self._arguments(predict, seed), n_iter=_STEPS, loss="ce", logger=_SILENCE)


@dataclass(frozen=True, kw_only=True)
class APGD_T(AutoAttackPart):  # noqa: N801
    """Maximise the targeted difference of logits ratio, for nine target classes in turn.

    Parameters
    ----------
    threat_model
        As for :class:`Attack`.

    Raises
    ------
    SettingError
        On a call, if the network has fewer than 4 classes.

    Notes
    -----
    If the network has fewer than ten classes, every wrong class is a target. The ratio needs four
    logits.
    """

    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        if num_classes < 4:
            raise SettingError(
                "must have at least 4 classes for apgd_t, whose loss is a ratio of four logits, "
                f"got {num_classes}. Use apgd_ce, fab_t and square.",
                "network",
            )
        attack = _library("autopgd_base").APGDAttack_targeted
        return attack(
            **self._arguments(predict, seed),
            n_iter=_STEPS,
            n_target_classes=min(_TARGETS, num_classes - 1),
            logger=_SILENCE,
        )


@dataclass(frozen=True, kw_only=True)
class FAB_T(AutoAttackPart):  # noqa: N801
    """Search for the nearest image of each of nine target classes, starting at the image itself.

    Parameters
    ----------
    threat_model
        As for :class:`Attack`.

    Notes
    -----
    Croce and Hein, *Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
    Attack*, 2020. If the network has fewer than ten classes, every wrong class is a target.
    """

    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        return _library("fab_pt").FABAttack_PT(
            **self._arguments(predict, seed),
            n_iter=_STEPS,
            targeted=True,
            n_target_classes=min(_TARGETS, num_classes - 1),
        )


@dataclass(frozen=True, kw_only=True)
class Square(AutoAttackPart):
    """Change random squares of the image, keeping changes that reduce the margin; no gradient.

    Parameters
    ----------
    threat_model
        As for :class:`Attack`. In l_2 the images need at least 5 x 5 pixels.
    queries
        Largest number of changes that are tried per image, at least 1.

    Raises
    ------
    SettingError
        On a call, if the images are too small for l_2.

    Notes
    -----
    Andriushchenko et al., *Square Attack: a Query-Efficient Black-Box Adversarial Attack via
    Random Search*, 2020.
    """

    queries: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("queries", self.queries)

    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        if self.threat_model.norm == "l2" and min(x.shape[2:]) < _SMALLEST_IN_L2:
            raise SettingError(
                f"must be images of at least {_SMALLEST_IN_L2} x {_SMALLEST_IN_L2} pixels for "
                f"square in l2, got shape {tuple(x.shape)}.",
                "x",
            )
        attack = _library("square").SquareAttack(
            **self._arguments(predict, seed),
            p_init=0.8,
            n_queries=self.queries,
            resc_schedule=False,
        )
        # The library counts a tie as fooled; if only ties remain, it continues with an empty batch.
        normalize, length = attack.normalize, attack.lp_norm
        attack.normalize = lambda delta: normalize(delta) if len(delta) else delta
        attack.lp_norm = lambda delta: length(delta) if len(delta) else delta[:, :1, :1, :1]
        return attack


def _library(module: str) -> Any:
    """Import a module of the optional library on first use."""
    return importlib.import_module(f"pyautoattack.{module}")


@contextlib.contextmanager
def _without_weight_gradients(network: nn.Module) -> Iterator[None]:
    """Switch the gradients of the weights off; FAB would otherwise add to their ``.grad``."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _other_devices_left_as_found() -> Iterator[None]:
    """Restore the random state of every GPU in use, because the library seeds all of them."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch's own gap
    devices = range(torch.cuda.device_count()) if in_use else ()
    with torch.random.fork_rng(devices, device_type="cuda"):
        yield
