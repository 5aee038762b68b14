"""The supernet of RobNet: every training step samples and runs one subnetwork."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# NNI's strategies must be imported before its one-shot ones: in the other order, a circular import
# turns the latter into stubs.
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

from nni_robust.check import check_seed
from nni_robust.space.multi_op import MultiOpEdge
from nni_robust.space.sampling import Sampler, sampler_of

_SAMPLER_STATE = "path_sampling_state"


class PathSamplingMultiOpEdge(MultiOpEdge, BaseSuperNetModule):  # type: ignore[misc]
    """The supernet's twin of a :class:`MultiOpEdge`: runs the subset that was drawn last.

    Operations outside the subset are not computed. The twin holds the modules of the edge that it
    replaces, so a subnetwork frozen from the supernet inherits their weights.

    Parameters
    ----------
    edge
        The edge to replace.
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
        # The mutable of the edge itself: its label was made in the scopes of the space.
        self._mutables = [edge.choice]
        self.choice = edge.choice
        self.active = edge.active

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Use the subset in ``memo`` for this label, or draw one uniformly, and return it."""
        drawn = memo[self.label] if self.label in memo else self.choice.random()
        self.active = tuple(name for name in self.names if name in drawn)
        return {self.label: list(self.active)}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return a random subset, or nothing if ``memo`` has one for this label."""
        return {} if self.label in memo else {self.label: self.choice.random()}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the probability of every operation, which is one half."""
        if self.label in memo:
            return {}
        return {self.label: dict(zip(self.names, self.choice.weights, strict=True))}

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> PathSamplingMultiOpEdge | None:
        """Replace an edge by its twin; NNI calls this hook on every module of a space."""
        return cls(module) if type(module) is MultiOpEdge else None


class PathSamplingModule(RandomSamplingLightningModule):  # type: ignore[misc]
    """Draw a subnetwork before every training and validation step.

    Parameters
    ----------
    training_module
        Lightning module that trains, and possibly attacks, the drawn subnetwork.
    sampler
        Source of the draws.
    random_state
        Random state of the sampler; checkpoints store it.
    """

    def __init__(
        self, training_module: LightningModule, sampler: Sampler, random_state: RandomState
    ) -> None:
        super().__init__(training_module)
        self.sampler = sampler
        self.random_state = random_state

    def resample(self) -> dict[str, Any]:
        """Draw a subnetwork, make the supernet run it, and return its sample."""
        sample = self.sampler.draw()
        activate(self.model, sample)
        return sample

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draw a subnetwork and train it on one batch."""
        self.resample()
        return self.training_module.training_step(*args, **kwargs)  # type: ignore[no-any-return]

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Draw a subnetwork and validate it on one batch."""
        self.resample()
        return self.training_module.validation_step(*args, **kwargs)

    def export(self) -> dict[str, Any]:
        """Return a random valid sample: finding the best subnetwork is a separate search."""
        return self.sampler.draw()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the random state, so that a resumed training continues the draws."""
        # Plain numbers, so that the checkpoint can be read without unpickling anything else.
        state: Any = self.random_state.get_state()
        checkpoint[_SAMPLER_STATE] = [state[0], state[1].tolist(), *state[2:]]
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random state."""
        self.random_state.set_state(tuple(checkpoint[_SAMPLER_STATE]))
        self.training_module.on_load_checkpoint(checkpoint)


class PathSamplingOneShot(RandomOneShot):  # type: ignore[misc]
    r"""Train a supernet by uniformly sampled subnetworks.

    Each step draws one valid sample of the space, :math:`\alpha \in \{0, 1\}^{2 \times 14}` for a
    RobNet cell, and the evaluator trains that subnetwork. An adversarial evaluator attacks it too.
    Works on spaces of :class:`MultiOpEdge` and of NNI's LayerChoice, InputChoice, Cell
    and Repeat. In data-parallel training all ranks draw the same subnetworks from the same seed.

    Parameters
    ----------
    seed
        Seed of the draws, from 0 to 2^32 - 1.
    mutation_hooks
        Twins of a user's own primitives; see NNI's one-shot strategies.

    Raises
    ------
    SettingError
        If the seed is outside its range.

    Notes
    -----
    [RobNets] Alg. 1. The draws satisfy the space's constraints, which NNI's RandomOneShot ignores.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        mutation_hooks: list[Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(mutation_hooks=mutation_hooks)
        check_seed(seed)
        self.seed = seed

    def default_mutation_hooks(self) -> list[Callable[..., Any]]:
        """Return the hooks of our edges, then those of NNI."""
        return [PathSamplingMultiOpEdge.mutate, *super().default_mutation_hooks()]

    def configure_oneshot_module(
        self, training_module: LightningModule
    ) -> BaseOneShotLightningModule:
        """Return the module that draws, around the evaluator's Lightning module."""
        random_state = RandomState(self.seed)
        sampler = sampler_of(self.model_space.model_space, random_state)
        return PathSamplingModule(training_module, sampler, random_state)

    def extra_repr(self) -> str:
        """Return the seed."""
        return f"seed={self.seed}"


def as_supernet(space: ModelSpace) -> ModelSpace:
    """Replace the choices of a space by their supernet twins, in place, and return it.

    Parameters
    ----------
    space
        The space. It changes, so it can be used for one search only.

    Returns
    -------
    ModelSpace
        The same object. ``freeze(sample)`` returns subnetworks with its weights.
    """
    return PathSamplingOneShot().mutate_model(space)


def activate(supernet: nn.Module, sample: dict[str, Any]) -> None:
    """Make a supernet run the subnetwork of a sample.

    Parameters
    ----------
    supernet
        A supernet of :func:`as_supernet`.
    sample
        From the label of every mutable of the space to its choice.
    """
    for module in supernet.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(memo=dict(sample))
