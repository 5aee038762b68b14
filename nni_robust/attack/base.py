"""What an adversary may do, what every attack owes, and the ascent that some of them share."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nni_robust.attack.loss import Objective, logits_at
from nni_robust.functional.projection import (
    Norm,
    check_norm,
    project_ball,
    project_image_range,
    steepest_ascent,
    uniform_in_ball,
)


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """What an adversary may do to an image: move it inside a ball, and stay an image.

    Parameters
    ----------
    norm
        The norm of the ball, ``"linf"`` or ``"l2"``.
    epsilon
        The radius of the ball, on the scale of images in [0, 1].

    Examples
    --------
    >>> x, x_adv = torch.tensor([[[[0.9, 0.5]]]]), torch.tensor([[[[1.4, 0.6]]]])
    >>> ThreatModel(epsilon=0.25).project(x_adv, x)
    tensor([[[[1.0000, 0.6000]]]])
    """

    norm: Norm = "linf"
    epsilon: float = 8 / 255

    def __post_init__(self) -> None:
        check_norm(self.norm)
        if self.norm == "linf" and not 0 <= self.epsilon <= 1:
            raise ValueError(
                f"epsilon must lie in [0, 1], the scale of the images, got {self.epsilon!r}. "
                "For the usual CIFAR-10 budget write 8/255, not 8."
            )
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(
                f"epsilon must be a length of at least 0, got {self.epsilon!r}. "
                "For the usual CIFAR-10 budget in l2 write 0.5 or 128/255."
            )

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Project onto the ball around ``x``, then onto [0, 1].

        The second step stays in the ball, since no pixel moves away from that of ``x``. In l_2 the
        result is a point of the intersection, not always its nearest.
        """
        return project_image_range(project_ball(x_adv, x, norm=self.norm, epsilon=self.epsilon))

    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a point of the ball around every image, uniformly, and project it onto [0, 1]."""
        return project_image_range(
            uniform_in_ball(x, norm=self.norm, epsilon=self.epsilon, generator=generator)
        )


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """A search for the image inside a threat model that misleads a network; an immutable value.

    A concrete attack is a frozen dataclass that writes `_perturb`; `__call__` is final.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    """

    threat_model: ThreatModel = ThreatModel()

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

        The network runs in the mode in which it is found. In training mode BatchNorm normalises
        by the attacked batch, and its running statistics stand still. Module modes, buffers,
        ``requires_grad``, ``.grad``, the global random state of torch and the batch are left as
        found. Autocast, where wanted, is the caller's.

        Parameters
        ----------
        network
            Maps images ``(N, C, H, W)`` to logits ``(N, K)``.
        x
            Images in [0, 1], shape ``(N, C, H, W)``.
        y
            True classes, shape ``(N,)``, of dtype ``torch.int64``.
        generator
            Where random starts are drawn from. Without one they come from a fresh generator of
            seed 0, the same at every call: adversarial training passes its own.

        Returns
        -------
        x_adv
            The attacked images, new memory, outside every graph.
        """
        _check_batch(x, y)
        if len(x) == 0:  # every image was fooled before and has left the batch
            return x.clone()
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        if torch.is_inference_mode_enabled():
            # Some torch versions let autocast keep the weights that it casts in inference mode,
            # and those cannot be saved for a backward pass.
            torch.clear_autocast_cache()
        with torch.inference_mode(False), torch.enable_grad(), _left_as_found(network, x.device):
            # Copies, because tensors of inference mode cannot be saved for a backward pass either.
            return self._perturb(network, x.detach().clone(), y.clone(), generator)

    @abc.abstractmethod
    def _perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return images of the threat model around ``x``, detached; gradients are enabled."""


_STEPS_TO_THE_BORDER = 4  # [RobNets] and [RACL] take steps of 2/255 in a ball of 8/255


@dataclass(frozen=True, kw_only=True)
class Ascent(Attack):
    """An attack of several steps of one length.

    Parameters
    ----------
    threat_model
        What the adversary may do.
    steps
        Number of steps, at least 1.
    step_size
        Length of a step in the norm of the threat model; None for a quarter of its ``epsilon``.
    """

    steps: int = 20
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise ValueError(
                "step_size must be positive, on the scale of images in [0, 1], "
                f"got {self.step_size!r}."
            )

    @property
    def step(self) -> float:
        """Length of a step, in the norm of the threat model."""
        if self.step_size is None:
            return self.threat_model.epsilon / _STEPS_TO_THE_BORDER
        return self.step_size


def ascend(
    network: nn.Module,
    x: Tensor,
    *,
    objective: Objective,
    start: Tensor,
    threat_model: ThreatModel,
    steps: int,
    step_size: float,
    decay: float = 0.0,
) -> Tensor:
    r"""Climb a loss by projected steps of steepest ascent.

    .. math::

        m_{k+1} = \delta \, m_k + \frac{\nabla_x \ell(x_k)}{\|\nabla_x \ell(x_k)\|_1},
        \qquad x_{k+1} = \Pi \bigl( x_k + s \operatorname*{arg\,max}_{\|d\|_p \le 1}
        \langle m_{k+1}, d \rangle \bigr).

    Parameters
    ----------
    network, x
        As in `Attack`.
    objective
        The loss :math:`\ell` as a function of the logits, one value an image.
    start
        The images :math:`x_0` to climb from, shape ``(N, C, H, W)``.
    threat_model
        Gives the norm p and the projection.
    steps
        Number of steps, at least 1.
    step_size
        Length s of a step in the norm of the threat model.
    decay
        Factor :math:`\delta` of the momentum. At 0 the l_1 norm cancels and is left out.

    Returns
    -------
    x_adv
        The last images, detached.
    """
    x_adv, momentum = start, torch.zeros_like(x)
    for _ in range(steps):
        gradient = _input_gradient(network, x_adv, objective)
        if decay:
            length = torch.linalg.vector_norm(gradient, 1, dim=(1, 2, 3), keepdim=True)
            # The least positive number stands in for the norm of an image without gradient.
            gradient = gradient / length.clamp_min(torch.finfo(x.dtype).tiny)
            momentum = gradient.add_(momentum, alpha=decay)
        direction = steepest_ascent(momentum if decay else gradient, norm=threat_model.norm)
        x_adv = threat_model.project(torch.add(x_adv, direction, alpha=step_size), x)
    return x_adv


def worst_of(
    attempts: int,
    attempt: Callable[[], Tensor],
    *,
    network: nn.Module,
    y: Tensor,
    objective: Objective,
) -> Tensor:
    """Keep the worst image of several attempts: a misclassified one, then that of larger loss."""
    worst = attempt()
    if attempts == 1:
        return worst
    worst_fooled, worst_loss = _damage(network, worst, y, objective)
    for _ in range(attempts - 1):
        x_adv = attempt()
        fooled, loss = _damage(network, x_adv, y, objective)
        worse = (fooled & ~worst_fooled) | ((fooled == worst_fooled) & (loss > worst_loss))
        worst = torch.where(worse.view(-1, 1, 1, 1), x_adv, worst)
        worst_fooled = fooled | worst_fooled
        worst_loss = torch.where(worse, loss, worst_loss)
    return worst


def check_count(argument: str, value: int, *, least: int = 1) -> None:
    """Raise a ValueError unless the value is a whole number, and large enough."""
    if not (isinstance(value, int) and value >= least):
        raise ValueError(f"{argument} must be a whole number of at least {least}, got {value!r}.")


def check_differentiable(value: Tensor) -> Tensor:
    """Raise a ValueError unless a value that a network has given can be differentiated."""
    if not value.requires_grad:
        raise ValueError(
            "network must be differentiable for an attack by gradient, but its logits are cut off "
            "from images and weights. Square sees no gradient; an audit looks for the cause."
        )
    return value


def _input_gradient(network: nn.Module, x_adv: Tensor, objective: Objective) -> Tensor:
    """Return the gradient of the summed loss at ``x_adv``, and none of the weights."""
    x_adv = x_adv.detach().requires_grad_()
    loss = check_differentiable(objective(network(x_adv).to(x_adv.dtype)).sum())
    # A subnetwork whose sampled edges all start at nodes without inputs does not see x: its
    # gradient is 0, not an error. Nor must a root of 0 in the network's depths make NaN of images.
    (gradient,) = torch.autograd.grad(loss, x_adv, materialize_grads=True)
    return gradient.nan_to_num()


def _damage(
    network: nn.Module, x_adv: Tensor, y: Tensor, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Return whether every image is misclassified, and its loss, both ``(N,)``."""
    logits = logits_at(x_adv, network)
    return logits.argmax(1) != y, objective(logits)


@contextlib.contextmanager
def _left_as_found(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep running statistics, other buffers and the random state from what forward passes do."""
    tracking: list[_BatchNorm] = []
    buffers: list[tuple[nn.Module, str, Tensor]] = []
    for module in network.modules():
        if not isinstance(module, _BatchNorm):
            buffers += [(module, name, b) for name, b in module.named_buffers(recurse=False)]
        elif module.training and module.track_running_stats:
            tracking.append(module)  # not tracking is cheaper than a copy, and needs no update
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
            f"y must be one class an image, shape ({len(x)},) and dtype torch.int64, "
            f"got shape {tuple(y.shape)} and dtype {y.dtype}."
        )
    if x.numel():
        low, high = (bound.item() for bound in torch.aminmax(x.detach()))
        if not (low >= 0 and high <= 1):  # true for NaN as well
            raise ValueError(
                f"x must lie in [0, 1], got values from {low:.4g} to {high:.4g}. "
                "Normalisation by mean and standard deviation belongs into the network."
            )
