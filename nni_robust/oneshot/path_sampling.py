"""The supernet of which every training step runs one sampled subnetwork."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# NNI's strategies must be imported before its one-shot ones: the other way round a circular
# import turns the latter into stubs.
import nni.nas.strategy  # noqa: F401  # isort: skip
from nni.mutable import frozen_context
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from nni.nas.oneshot.pytorch.strategy import RandomOneShot
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from numpy.random import RandomState
from torch import Tensor, nn

from nni_robust.space.multi_op import MultiOpEdge
from nni_robust.space.sampling import Sampler, sampler_of

_SAMPLER_STATE = "path_sampling_state"


class PathSamplingMultiOpEdge(MultiOpEdge, BaseSuperNetModule):  # type: ignore[misc]
    """The supernet's twin of a :class:`MultiOpEdge`: runs the subset that was last drawn.

    Operations outside the subset are not computed. It holds the very modules of the edge it
    replaces, so that a subnetwork frozen from the supernet inherits their weights.
    """

    def __init__(self, edge: MultiOpEdge) -> None:
        with frozen_context():
            super().__init__(
                edge.operations(),
                channels=edge.channels,
                stride=edge.stride,
                label=edge.label.rsplit("/", 1)[-1],
                default=edge.active,
            )
        # The very mutable of the edge: its label was made in the scopes of the space.
        self._mutables = [edge.choice]
        self.choice = edge.choice
        self._drawn: tuple[str, ...] = edge.active

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the operations that were drawn last."""
        return self._drawn

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Take the subset of this label from ``memo``, or draw one uniformly."""
        drawn = memo[self.label] if self.label in memo else self.choice.random()
        self._drawn = tuple(name for name in self.names if name in drawn)
        return {self.label: list(self._drawn)}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give a random subset, unless the label has one in ``memo``."""
        return {} if self.label in memo else {self.label: self.choice.random()}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Give the probability of each operation, one half throughout."""
        if self.label in memo:
            return {}
        return {self.label: dict(zip(self.names, self.choice.weights, strict=True))}

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> PathSamplingMultiOpEdge | None:
        """Replace an edge by its twin; NNI's hook, called on every module of a space."""
        return cls(module) if type(module) is MultiOpEdge else None


class PathSamplingModule(RandomSamplingLightningModule):  # type: ignore[misc]
    """Draw a subnetwork before every training and validation step.

    Parameters
    ----------
    training_module
        Lightning module that trains, and attacks, whatever subnetwork is drawn.
    sampler
        Where the draws come from.
    random_state
        The state behind the sampler; stored in checkpoints.
    """

    def __init__(
        self, training_module: LightningModule, sampler: Sampler, random_state: RandomState
    ) -> None:
        super().__init__(training_module)
        self.sampler = sampler
        self.random_state = random_state

    def resample(self) -> dict[str, Any]:
        """Draw a subnetwork and make the supernet run it."""
        sample = self.sampler.draw()
        activate(self.model, sample)
        return sample

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Train the subnetwork that this draws."""
        self.resample()
        return self.training_module.training_step(*args, **kwargs)  # type: ignore[no-any-return]

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Validate the subnetwork that this draws."""
        self.resample()
        return self.training_module.validation_step(*args, **kwargs)

    def export(self) -> dict[str, Any]:
        """Give a random valid sample: which subnetwork is best is a further search."""
        return self.sampler.draw()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the state of the draws, so that a resumed training draws on."""
        # Plain numbers, so that the checkpoint can be read without unpickling anything else.
        state: Any = self.random_state.get_state()
        checkpoint[_SAMPLER_STATE] = [state[0], state[1].tolist(), *state[2:]]
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the draws."""
        self.random_state.set_state(tuple(checkpoint[_SAMPLER_STATE]))
        self.training_module.on_load_checkpoint(checkpoint)


class PathSamplingOneShot(RandomOneShot):  # type: ignore[misc]
    r"""Train a supernet by uniformly sampled subnetworks, drawn from a seed.

    Each step draws one valid sample of the space, :math:`\alpha \in \{0, 1\}^{2 \times 14}`
    for a RobNet cell, and the evaluator trains that subnetwork: with an adversarial evaluator
    the attack sees the subnetwork as well. Works on spaces of :class:`MultiOpEdge` and of
    NNI's LayerChoice, InputChoice, Cell and Repeat. Under data-parallel training every rank
    draws the same subnetworks, since all start from the same seed.

    Parameters
    ----------
    seed
        Seed of the draws.
    mutation_hooks
        Twins of a user's own primitives; see NNI's one-shot strategies.

    Notes
    -----
    [RobNets] Alg. 1. The space's constraints, which NNI's RandomOneShot ignores, hold here.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        mutation_hooks: list[Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(mutation_hooks=mutation_hooks)
        self.seed = seed

    def default_mutation_hooks(self) -> list[Callable[..., Any]]:
        """Twins of our edges before NNI's own."""
        return [PathSamplingMultiOpEdge.mutate, *super().default_mutation_hooks()]

    def configure_oneshot_module(
        self, training_module: LightningModule
    ) -> BaseOneShotLightningModule:
        """Wrap the evaluator's Lightning module by the one that draws."""
        random_state = RandomState(self.seed)
        sampler = sampler_of(self.model_space.model_space, random_state)
        return PathSamplingModule(training_module, sampler, random_state)

    def extra_repr(self) -> str:
        """Name the seed."""
        return f"seed={self.seed}"


def as_supernet(
    space: ModelSpace, mutation_hooks: list[Callable[..., Any]] | None = None
) -> ModelSpace:
    """Turn a space into its supernet, in place.

    Parameters
    ----------
    space
        The space; it serves one search, since this changes it.
    mutation_hooks
        Twins of a user's own primitives.

    Returns
    -------
    ModelSpace
        The same object. ``freeze(sample)`` gives subnetworks with its weights.
    """
    return PathSamplingOneShot(mutation_hooks=mutation_hooks).mutate_model(space)


def activate(supernet: nn.Module, sample: dict[str, Any]) -> None:
    """Make a supernet run the subnetwork of a sample.

    Parameters
    ----------
    supernet
        What :func:`as_supernet` gave.
    sample
        From label to choice, for every mutable of the space.
    """
    for module in supernet.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(memo=dict(sample))
