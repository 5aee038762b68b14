"""The four attacks of AutoAttack, in the settings of its standard version."""

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

from nni_robust.attack.base import Attack, check_count
from nni_robust.attack.loss import check_has_rivals

_STEPS = 100
_TARGETS = 9  # of the classes that are likeliest after the first
_NORMS = {"linf": "Linf", "l2": "L2"}
_SMALLEST_IN_L2 = 5  # pixels a side: Square tiles an image by fifths in l_2
# Outside the tree of loggers, so that what the library says of gradients reaches nobody's screen.
_SILENCE = logging.Logger("pyautoattack", logging.CRITICAL + 1)


@dataclass(frozen=True, kw_only=True)
class AutoAttackPart(Attack):
    """An attack of AutoAttack, carried out by ``pyautoattack``.

    Computes in float32, on the device of the images. Starts are drawn from the seed of the
    generator and not from its state: AutoAttack begins every batch with the same seed. An image
    that is classified right to the end comes back unchanged, or within the threat model.

    Parameters
    ----------
    threat_model
        What the adversary may do.

    Notes
    -----
    Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks*, 2020.
    """

    def __post_init__(self) -> None:
        if importlib.util.find_spec("pyautoattack") is None:
            raise ValueError(
                f"name must not be {self.name!r} where pyautoattack is not installed. "
                "Run pip install 'nni_robust[eval]'."
            )

    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        def predict(images: Tensor) -> Tensor:
            logits: Tensor = network(images.to(x.dtype)).float()
            # Logits that do not depend on the image shall have a gradient all the same, of 0.
            return logits + 0 * images.flatten(1).sum(1, keepdim=True)

        with _weights_at_rest(network), _other_devices_left_as_found():
            with torch.no_grad():
                logits = predict(x)
            check_has_rivals(logits)
            part = self._part(predict, x, logits.shape[1], seed=generator.initial_seed())
            found: Tensor = part.perturb(x.float().contiguous(), y).detach()
        # FAB divides by the gradient, and takes an image of NaN for a success.
        usable = found.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
        return torch.where(usable, found.to(x.dtype), x)

    @abc.abstractmethod
    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        """Build the library's attack, an object with a method ``perturb``."""

    def _arguments(self, predict: Callable[[Tensor], Tensor], seed: int) -> dict[str, Any]:
        """Give the arguments that the library's attacks share."""
        return {
            "predict": predict,
            "norm": _NORMS[self.threat_model.norm],
            "eps": self.threat_model.epsilon,
            "n_restarts": 1,
            "seed": seed,
        }


@dataclass(frozen=True, kw_only=True)
class APGD_CE(AutoAttackPart):  # noqa: N801  # written as in the field, and so in records
    """Ascend the cross-entropy with steps whose size adapts itself, from a random start.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    """

    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        attack = _library("autopgd_base").APGDAttack
        return attack(**self._arguments(predict, seed), n_iter=_STEPS, loss="ce", logger=_SILENCE)


@dataclass(frozen=True, kw_only=True)
class APGD_T(AutoAttackPart):  # noqa: N801
    """Ascend the targeted difference of logits ratio, towards nine classes in turn.

    Parameters
    ----------
    threat_model
        What the adversary may do.

    Notes
    -----
    Of a network of fewer than ten classes, all wrong ones are targets; the ratio takes four.
    """

    def _part(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, num_classes: int, *, seed: int
    ) -> Any:
        if num_classes < 4:
            raise ValueError(
                "network must tell at least 4 classes apart for apgd_t, whose loss is a ratio of "
                f"four logits, got {num_classes}. Use apgd_ce, fab_t and square."
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
    """Search for the nearest image of each of nine classes, from the image itself.

    Parameters
    ----------
    threat_model
        What the adversary may do.

    Notes
    -----
    Croce and Hein, *Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
    Attack*, 2020. Of a network of fewer than ten classes, all wrong ones are targets.
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
    """Change random squares of the image as long as the margin shrinks; asks for no gradient.

    Parameters
    ----------
    threat_model
        What the adversary may do. In l_2 the images have at least 5 x 5 pixels.
    queries
        Largest number of changes that are tried.

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
            raise ValueError(
                f"x must be images of at least {_SMALLEST_IN_L2} x {_SMALLEST_IN_L2} pixels for "
                f"square in l2, got shape {tuple(x.shape)}."
            )
        attack = _library("square").SquareAttack(
            **self._arguments(predict, seed),
            p_init=0.8,
            n_queries=self.queries,
            resc_schedule=False,
        )
        # It counts a tie as fooled, and where only ties are left goes on with no image at all.
        normalize, length = attack.normalize, attack.lp_norm
        attack.normalize = lambda delta: normalize(delta) if len(delta) else delta
        attack.lp_norm = lambda delta: length(delta) if len(delta) else delta[:, :1, :1, :1]
        return attack


def _library(module: str) -> Any:
    """Import a part of the library, which is an extra, when it is needed."""
    return importlib.import_module(f"pyautoattack.{module}")


@contextlib.contextmanager
def _weights_at_rest(network: nn.Module) -> Iterator[None]:
    """Ask for no gradients of weights, which FAB would add to theirs."""
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
    """Keep the random state of every accelerator in use: the library seeds all of them."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch's own gap
    devices = range(torch.cuda.device_count()) if in_use else ()
    with torch.random.fork_rng(devices, device_type="cuda"):
        yield
