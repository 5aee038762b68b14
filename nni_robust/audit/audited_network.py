"""A network under audit: its logits, its gradients, and which attack fools it on which image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nni_robust.attack import PGD, Attack, ThreatModel
from nni_robust.attack.loss import Loss, logit_loss_at
from nni_robust.audit.straight_through import StraightThrough
from nni_robust.evaluator.deployment import as_deployed, device_of
from nni_robust.evaluator.outcome import WRONG
from nni_robust.evaluator.robustness import measure_robustness


class AuditedNetwork:
    """A network and the images of its audit. It runs every attack only once.

    All masks have shape (N,), are boolean and on the CPU.

    Parameters
    ----------
    network, x, y, batch_size, seed
        As for :func:`nni_robust.evaluator.robustness.measure_robustness`.
    threat_model
        What the adversary may do.
    surrogate
        Another network that the adversary has, in evaluation mode and on the same device; or None.
    queries
        Number of queries of an adversary that sees only logits.

    Attributes
    ----------
    right
        Mask of the images that are classified right without an attack.
    """

    def __init__(
        self,
        network: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        threat_model: ThreatModel,
        surrogate: nn.Module | None = None,
        queries: int = 1000,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        self.network = network
        self._on_graph = _OnGraph(network)
        self.device = device_of(network, x)
        self.x, self.y = x, y
        self.threat_model = threat_model
        self.surrogate = surrogate
        self.queries = queries
        self.batch_size = batch_size
        self.seed = seed
        self._fooled: dict[Attack, Tensor] = {}
        logits = self.logits(torch.arange(len(x)))
        self.right = (logits.argmax(1) == y.cpu()) & ~logits.isnan().any(1)

    @property
    def num_right(self) -> int:
        """Number of images that are classified right without an attack."""
        return int(self.right.sum())

    def logits(self, order: Tensor, batch_size: int | None = None) -> Tensor:
        """Return the logits of the images in the given order, (N, K), on the CPU."""
        parts = torch.split(order.to(self.x.device), batch_size or self.batch_size)
        with as_deployed(self.network, self.device), torch.no_grad():
            return torch.cat([self.network(self.x[i].to(self.device)).cpu() for i in parts])

    def num_training(self) -> int:
        """Count the modules that stay in training mode after ``eval()``."""
        with as_deployed(self.network, self.device):
            return sum(module.training for module in self.network.modules())

    def other_network(self) -> nn.Module | None:
        """Return the surrogate, else the network without its step functions, if it has any."""
        if self.surrogate is not None:
            return self.surrogate
        with as_deployed(self.network, self.device):
            stand_in = StraightThrough(self.network)
            return stand_in if stand_in.num_steps(self.x[:1].to(self.device)) else None

    def without_gradient(self, loss: Loss) -> tuple[Tensor, Tensor]:
        """Return masks of the images whose gradient is 0, and of those where it is not finite.

        Only images that are classified right are examined.

        Parameters
        ----------
        loss
            The loss to differentiate, a key of ``LOSSES``.
        """
        zero, broken = torch.zeros_like(self.right), torch.zeros_like(self.right)
        with as_deployed(self.network, self.device), torch.enable_grad():
            for i in torch.split(self.right.nonzero().flatten(), self.batch_size):
                x = self.x[i.to(self.x.device)].to(self.device).requires_grad_()
                y = self.y[i.to(self.y.device)].to(self.device)
                losses = logit_loss_at(x, y, network=self._on_graph, loss=loss)(self._on_graph(x))
                (gradient,) = torch.autograd.grad(losses.sum(), x)
                gradient = gradient.flatten(1).cpu()
                zero[i], broken[i] = (gradient == 0).all(1), ~gradient.isfinite().all(1)
        return zero, broken

    def fooled(self, attack: Attack, asked: Tensor | None = None) -> Tensor:
        """Return the mask of the images on which an attack fools the network.

        Parameters
        ----------
        attack
            Runs unless it has run before.
        asked
            Mask of the images to attack; None for all that are classified right.
        """
        if attack not in self._fooled:
            asked = self.right if asked is None else asked
            result = measure_robustness(
                self._on_graph,
                self.x[asked.to(self.x.device)],
                self.y[asked.to(self.y.device)],
                attacks=[attack],
                batch_size=self.batch_size,
                seed=self.seed,
            )
            outcomes = [outcome == WRONG for outcome in result.outcomes[attack.name]]
            fooled = torch.zeros_like(self.right)
            fooled[asked] = torch.tensor(outcomes, dtype=torch.bool)
            self._fooled[attack] = fooled
        return self._fooled[attack]

    def robust_mask(self) -> Tensor:
        """Return the mask of the images on which no attack within the threat model succeeded."""
        robust = self.right
        for attack, fooled in self._fooled.items():
            if attack.threat_model == self.threat_model:
                robust = robust & ~fooled
        return robust

    def accuracy(self, attack: Attack) -> float:
        """Return the accuracy under an attack."""
        return fraction(self.right & ~self.fooled(attack))

    def pgd(self, steps: int = 20, *, restarts: int = 1, loss: Loss = "cross_entropy") -> PGD:
        """Return PGD within the threat model."""
        return PGD(threat_model=self.threat_model, steps=steps, restarts=restarts, loss=loss)


def count(mask: Tensor) -> int:
    """Return the number of images in a mask."""
    return int(mask.sum())


def fraction(mask: Tensor) -> float:
    """Return the fraction of the images in a mask."""
    return mask.double().mean().item()


class _OnGraph(nn.Module):
    """The same network, but its logits always have a gradient, 0 if it detaches the images.

    Otherwise such a network could not be attacked at all.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)
