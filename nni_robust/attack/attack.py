"""The contract of all attacks: what they take, what they return and what they leave unchanged."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nni_robust.attack.threat_model import ThreatModel
from nni_robust.check import SettingError


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """An attack: an immutable value that turns images into adversarial images.

    A concrete attack is a frozen dataclass that implements `_perturb`; `__call__` is final.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    """

    threat_model: ThreatModel = ThreatModel()  # noqa: RUF009  # an immutable value

    @property
    def name(self) -> str:
        """Short name in records and tables: ``pgd20``, ``pgd20x5_cw`` or ``transfer_pgd20``."""
        settings = vars(self)
        count = settings.get("steps", settings.get("repeats", ""))
        restarts = settings.get("restarts", 1)
        parts = [f"{type(self).__name__.lower()}{count}" + (f"x{restarts}" if restarts > 1 else "")]
        if settings.get("loss", "cross_entropy") != "cross_entropy":
            parts.append(settings["loss"])
        if "attack" in settings:
            parts.append(settings["attack"].name)
        return "_".join(parts)

    def __call__(
        self,
        network: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Attack every image of a batch.

        The network runs in its current mode. In training mode, BatchNorm normalises by the
        statistics of the attacked batch and does not update its running statistics. The attack
        leaves module modes, buffers, ``requires_grad``, ``.grad``, torch's global random state and
        the batch unchanged. The caller enables autocast if it is wanted.

        Parameters
        ----------
        network
            Maps images ``(N, C, H, W)`` to logits ``(N, K)``.
        x
            Images in [0, 1], shape ``(N, C, H, W)``, floating-point.
        y
            True classes, shape ``(N,)``, of dtype ``torch.int64``.
        generator
            Draws the random starts. Without one, every call uses a new generator with seed 0 and
            draws the same starts; adversarial training passes its own.

        Returns
        -------
        x_adv
            The attacked images, same shape and dtype, in new memory and without a graph.

        Raises
        ------
        ValueError
            If the shape or dtype of ``x`` or ``y`` is wrong, or a pixel is outside [0, 1].
        """
        _check_batch(x, y)
        if len(x) == 0:  # earlier attacks have fooled the network on every image of the batch
            return x.clone()
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        if torch.is_inference_mode_enabled():
            # In some torch versions, autocast caches the weights that it casts in inference mode;
            # those cannot be saved for a backward pass.
            torch.clear_autocast_cache()
        with torch.inference_mode(False), torch.enable_grad(), _left_as_found(network, x.device):
            # Copies, because tensors of inference mode cannot be saved for a backward pass either.
            return self._perturb(network, x.detach().clone(), y.clone(), generator)

    @abc.abstractmethod
    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return detached images within the threat model around ``x``; gradients are enabled."""


@contextlib.contextmanager
def _left_as_found(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore what forward passes change: running statistics, other buffers, the random state."""
    tracking: list[_BatchNorm] = []
    buffers: list[tuple[nn.Module, str, Tensor]] = []
    for module in network.modules():
        if not isinstance(module, _BatchNorm):
            buffers += [(module, name, b) for name, b in module.named_buffers(recurse=False)]
        elif module.training and module.track_running_stats:
            tracking.append(module)  # switching tracking off is cheaper than a copy and an update
    accelerator = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(accelerator, device_type=device.type):
        try:
            for norm in tracking:
                norm.track_running_stats = False
            for module, name, buffer in buffers:
                setattr(module, name, buffer.clone())
            yield
        finally:
            for norm in tracking:
                norm.track_running_stats = True
            for module, name, buffer in buffers:
                setattr(module, name, buffer)


def _check_batch(x: Tensor, y: Tensor) -> None:
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(
            "x must be floating-point images of shape (N, C, H, W), "
            f"got shape {tuple(x.shape)} and dtype {x.dtype}."
        )
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(
            f"y must contain one class per image, shape ({len(x)},) and dtype torch.int64, "
            f"got shape {tuple(y.shape)} and dtype {y.dtype}."
        )
    if x.numel():
        low, high = (bound.item() for bound in torch.aminmax(x.detach()))
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise SettingError(
                f"must lie in [0, 1], got values from {low:.4g} to {high:.4g}. "
                "Normalise by mean and standard deviation inside the network.",
                "x",
            )
