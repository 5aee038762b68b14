"""The images of an audit, what a network makes of them, and which attack fools which."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nni_robust.attack import PGD, Attack, ThreatModel
from nni_robust.attack.loss import Loss, logit_loss_at
from nni_robust.audit.straight_through import StraightThrough
from nni_robust.evaluator.outcome import WRONG
from nni_robust.evaluator.robustness import as_deployed, device_of, measure_robustness


class Bench:
    """One network and one set of images, on which no attack runs twice.

    Parameters
    ----------
    network, x, y, batch_size, seed
        As for :func:`nni_robust.evaluator.robustness.measure_robustness`.
    threat_model
        What the adversary may do.
    surrogate
        Another network in evaluation mode, on the same device, that the adversary has; or None.
    queries
        How often the adversary may ask for logits where it sees no gradient.

    Attributes
    ----------
    right
        Which images are classified right without an attack, shape (N,), on the CPU as all masks.
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

    def logits(self, order: Tensor, batch_size: int | None = None) -> Tensor:
        """Run the network on images in some order, (N, K), with the result on the CPU."""
        parts = torch.split(order.to(self.x.device), batch_size or self.batch_size)
        with as_deployed(self.network, self.device), torch.no_grad():
            return torch.cat([self.network(self.x[i].to(self.device)).cpu() for i in parts])

    def num_training(self) -> int:
        """Count the modules that stay in training mode when the network is told to leave it."""
        with as_deployed(self.network, self.device):
            return sum(module.training for module in self.network.modules())

    @property
    def num_right(self) -> int:
        """Number of images that are classified right without an attack."""
        return int(self.right.sum())

    def other_network(self) -> nn.Module | None:
        """Give the surrogate, or the network with its steps made passable, if it has any."""
        if self.surrogate is not None:
            return self.surrogate
        with as_deployed(self.network, self.device):
            stand_in = StraightThrough(self.network)
            return stand_in if stand_in.num_steps(self.x[:1].to(self.device)) else None

    def without_gradient(self, loss: Loss) -> tuple[Tensor, Tensor]:
        """Tell for which images classified right a gradient is 0, and for which it is not finite.

        Parameters
        ----------
        loss
            What is derived, a key of ``LOSSES``.

        Returns
        -------
        zero, broken
            Shape (N,).
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
        """Tell which images an attack fools.

        Parameters
        ----------
        attack
            Runs unless it has before.
        asked
            Images that it is tried on, shape (N,); None for all that are classified right.

        Returns
        -------
        Tensor
            Shape (N,).
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

    def standing(self) -> Tensor:
        """Tell which images no attack within the threat model has fooled so far, (N,)."""
        standing = self.right
        for attack, fooled in self._fooled.items():
            if attack.threat_model == self.threat_model:
                standing = standing & ~fooled
        return standing

    def accuracy(self, attack: Attack) -> float:
        """Give the accuracy under an attack that is tried on all images."""
        return share(self.right & ~self.fooled(attack))

    def pgd(self, steps: int = 20, *, restarts: int = 1, loss: Loss = "cross_entropy") -> PGD:
        """Set up PGD in the threat model."""
        return PGD(threat_model=self.threat_model, steps=steps, restarts=restarts, loss=loss)


def share(images: Tensor) -> float:
    """Give the share of the images that a mask holds."""
    return images.double().mean().item()


class _OnGraph(nn.Module):
    """The same network, whose logits have a gradient, of 0, even where the images leave no trace.

    A network that detaches them could not be attacked at all.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)
