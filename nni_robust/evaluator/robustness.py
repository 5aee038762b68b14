"""Clean and robust accuracy of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import nni
import torch
from nni.nas.evaluator import Evaluator
from torch import Tensor, nn

from nni_robust.attack import PGD, Attack


def attacked_accuracy(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attacks: Sequence[Attack],
    batch_size: int = 128,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> dict[str, float]:
    r"""Measure the accuracy on clean images, under each attack, and under the worst of them.

    .. math:: \frac{1}{n} \sum_i \prod_a [f(x_i^a) = y_i],

    the product running over the clean image and every attack. An image that is misclassified
    without an attack counts as fooled by each, and is not attacked.

    Parameters
    ----------
    network
        Maps (N, C, H, W) to logits; runs in evaluation mode and is left in the mode found.
    x, y
        Images in [0, 1], (N, C, H, W), and labels, (N,), on any device.
    attacks
        The suite.
    batch_size
        Images attacked at once.
    seed
        Of the attacks' random starts: equal for every network that is compared.
    progress
        Called with the number of images after each batch.

    Returns
    -------
    dict
        Fractions: ``clean``, one key an attack (``pgd20``), and ``robust``, the worst case.
    """
    was_training = network.training
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    check_suite("attacks", attacks)
    names = [attack.name for attack in attacks]
    correct = dict.fromkeys(["clean", *names, "robust"], 0)
    network.eval()
    try:
        for x_batch, y_batch in zip(*_batches(batch_size, x, y), strict=True):
            images, labels = x_batch.to(device), y_batch.to(device)
            right = _is_right(network, images, labels)
            correct["clean"] += int(right.sum())
            images, labels = images[right], labels[right]
            standing = torch.ones_like(labels, dtype=torch.bool)
            for attack, name in zip(attacks, names, strict=True):
                x_adv = attack(network, images, labels, generator=generator)
                right = _is_right(network, x_adv, labels)
                correct[name] += int(right.sum())
                standing &= right
            correct["robust"] += int(standing.sum())
            if progress is not None:
                progress(len(x_batch))
    finally:
        network.train(was_training)
    return {name: count / len(x) for name, count in correct.items()}


@nni.trace
class RobustAccuracy(Evaluator):  # type: ignore[misc]  # NNI is untyped
    """Evaluator that attacks a network as it is, and trains nothing.

    Reports a dict with ``default``, the accuracy under the worst attack of the suite for each
    image, with ``clean`` and with one key an attack.

    Parameters
    ----------
    data
        Data module; see :mod:`nni_robust.data`.
    attacks
        The suite, or None for PGD-20.
    split
        Images to attack: ``validation`` for anything that is chosen by the result, ``test``
        for what is reported.
    num_examples
        Number of images, or None for all.
    batch_size
        Images attacked at once.
    seed
        Of the attacks' random starts.
    """

    def __init__(
        self,
        *,
        data: Any,
        attacks: Sequence[Attack] | None = None,
        split: str = "validation",
        num_examples: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        if split not in ("train", "validation", "test"):
            raise ValueError(f"split must be 'train', 'validation' or 'test', got {split!r}.")
        self.data = data
        self.attacks = [PGD()] if attacks is None else list(attacks)
        self.split = split
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed

    def measure(self, network: nn.Module) -> dict[str, float]:
        """Give the accuracies of a network; see :func:`attacked_accuracy`."""
        x, y = self.data.examples(self.split, self.num_examples)
        return attacked_accuracy(
            network, x, y, attacks=self.attacks, batch_size=self.batch_size, seed=self.seed
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure a network, and report to NNI where there is a trial to report for."""
        accuracies = self.measure(model)
        metrics = {"default": accuracies.pop("robust"), **accuracies}
        if nni.get_current_parameter() is not None:
            nni.report_final_result(metrics)
        return metrics


def check_suite(argument: str, attacks: Sequence[Attack]) -> None:
    """Refuse a suite that is empty or in which two attacks have one name."""
    if not attacks:
        raise ValueError(f"{argument} must hold at least one attack, got none.")
    names = [attack.name for attack in attacks]
    if len(set(names)) < len(names):
        raise ValueError(f"{argument} must differ in name, got {names!r}.")


def _batches(batch_size: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    return [torch.split(tensor, batch_size) for tensor in tensors]


@torch.no_grad()
def _is_right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if len(x) == 0:
        return torch.zeros_like(y, dtype=torch.bool)
    return network(x).argmax(1) == y  # type: ignore[no-any-return]
