"""Clean and robust accuracy of a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nni
import torch
from nni.nas.evaluator import Evaluator
from torch import Tensor, nn

from nni_robust.attack import PGD, Attack
from nni_robust.check import check_choice, check_count
from nni_robust.evaluator.deployment import as_deployed, check_precision, device_of
from nni_robust.evaluator.outcome import NOT_ASKED, OPEN, RIGHT, WRONG, ImageSequence, Robustness
from nni_robust.evaluator.progress_file import ProgressFile
from nni_robust.evaluator.report_to_nni import report_final
from nni_robust.evaluator.suite import check_suite


def measure_robustness(
    network: nn.Module,
    x: ImageSequence,
    y: Tensor,
    *,
    attacks: Sequence[Attack],
    batch_size: int = 128,
    seed: int = 0,
    keep_fooled: bool = False,
    state: str | Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Robustness:
    """Attack every image with the attacks of a suite until one fools the network.

    The network runs in evaluation mode and in full float32, without autocast and TF32, and is left
    as it was found. The attacks run one after another, each on full batches of the remaining
    images.

    Parameters
    ----------
    network
        Maps (N, C, H, W) to logits.
    x, y
        Images in [0, 1], (N, C, H, W), and labels, (N,), on any device. Images that a dataset
        leaves in files are read one batch at a time.
    attacks
        The suite.
    batch_size
        Number of images attacked at once.
    seed
        Seed of the attacks' random starts. Every batch of every attack starts with it, so that no
        result depends on what ran before.
    keep_fooled
        Whether an image that fooled the network stays for the next attacks, so that each attack has
        an accuracy of its own.
    state
        Folder of a file that is updated after every batch. A stopped evaluation continues from it
        and gives the same result. None for no file. Every evaluation has its own file.
    progress
        Called with the number of images that are settled. The clean pass and each attack settle all
        images.

    Raises
    ------
    SettingError
        If the suite is empty or ambiguous, if the network does not compute in float32 or float64,
        or if the state is damaged.
    """
    check_suite("attacks", attacks)
    check_count("batch_size", batch_size)
    check_precision(network)
    report = progress or (lambda done: None)
    device = device_of(network, x)
    conditions = {"batch_size": batch_size, "seed": seed, "keep_fooled": keep_fooled}
    file = None if state is None else ProgressFile(state, network, x, y, attacks, **conditions)
    names = ["clean", *(attack.name for attack in attacks)]
    known = file.read() if file else None
    outcomes = {name: list(known[name] if known else OPEN * len(x)) for name in names}

    with as_deployed(network, device):
        for name, attack in zip(names, [None, *attacks], strict=True):
            asked = _asked(outcomes, name, keep_fooled)
            for index in {*range(len(x))} - {*asked}:
                outcomes[name][index] = NOT_ASKED
            report(len(x) - len(asked))
            for start in range(0, len(asked), batch_size):
                batch = asked[start : start + batch_size]
                if any(outcomes[name][index] == OPEN for index in batch):
                    images, labels = x[batch].to(device), y[batch].to(device)
                    right = _classified_right(network, images, labels, attack=attack, seed=seed)
                    for index, is_right in zip(batch, right, strict=True):
                        outcomes[name][index] = RIGHT if is_right else WRONG
                    if file:
                        file.write(_joined(outcomes))
                report(len(batch))
    return Robustness(outcomes=_joined(outcomes))


def attacked_accuracy(
    network: nn.Module,
    x: ImageSequence,
    y: Tensor,
    *,
    attacks: Sequence[Attack],
    batch_size: int = 128,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> dict[str, float]:
    r"""Return the accuracy on clean images, under each attack, and under the worst of them.

    The last one is

    .. math:: \frac{1}{n} \sum_i \prod_a [f(x_i^a) = y_i],

    where the product runs over the clean image and every attack. An image that is misclassified
    without an attack counts as misclassified under each, and is not attacked.

    Parameters
    ----------
    network, x, y, attacks, batch_size, seed, progress
        As for :func:`measure_robustness`; images that fooled the network stay.

    Returns
    -------
    dict
        Fractions: ``clean``, one key per attack (``pgd20``), and ``robust``, the worst case.
    """
    return measure_robustness(
        network,
        x,
        y,
        attacks=attacks,
        batch_size=batch_size,
        seed=seed,
        keep_fooled=True,
        progress=progress,
    ).accuracies()


@nni.trace
class RobustAccuracy(Evaluator):  # type: ignore[misc]  # NNI is untyped
    """Evaluator that attacks a network as it is, without any training.

    Reports a dict with ``default``, the accuracy under the worst attack per image, with ``clean``
    and with one key per attack.

    Parameters
    ----------
    data
        Data module; see :mod:`nni_robust.data`.
    attacks
        The suite.
    split
        Images to attack: ``validation`` if the result is used to choose something, ``test`` if it
        is only published.
    num_examples
        Number of images; None for all.
    batch_size
        Number of images attacked at once.
    seed
        Seed of the attacks' random starts.
    """

    def __init__(
        self,
        *,
        data: Any,
        attacks: Sequence[Attack] = (PGD(),),  # immutable values
        split: str = "validation",
        num_examples: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        check_choice("split", split, ("train", "validation", "test"))
        self.data = data
        self.attacks = list(attacks)
        self.split = split
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed

    def measure(self, network: nn.Module) -> dict[str, float]:
        """Return the accuracies of a network; see :func:`attacked_accuracy`."""
        x, y = self.data.examples(self.split, self.num_examples)
        return attacked_accuracy(
            network, x, y, attacks=self.attacks, batch_size=self.batch_size, seed=self.seed
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the metrics of a network, and report them to NNI in a trial."""
        accuracies = self.measure(model)
        metrics = {"default": accuracies.pop("robust"), **accuracies}
        report_final(metrics)
        return metrics


def _asked(outcomes: dict[str, list[str]], name: str, keep_fooled: bool) -> list[int]:
    """Return the indices of the images that an attack is tried on."""
    names = list(outcomes)
    before = names[: names.index(name)]
    relevant = [outcomes[earlier] for earlier in (before[:1] if keep_fooled else before)]
    return [
        index
        for index in range(len(outcomes[name]))
        if all(outcome[index] == RIGHT for outcome in relevant)
    ]


def _joined(outcomes: dict[str, list[str]]) -> dict[str, str]:
    return {name: "".join(characters) for name, characters in outcomes.items()}


def _classified_right(
    network: nn.Module, x: Tensor, y: Tensor, *, attack: Attack | None, seed: int
) -> list[bool]:
    """Return per image whether it is classified right; unattacked if `attack` is None."""
    if attack is not None:
        x = attack(network, x, y, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits = network(x)
    # argmax takes NaN for the largest value, so that a broken network could be right by chance.
    broken = logits.isnan().any(1)
    if attack is None and broken.any():
        warnings.warn(
            "The network returns NaN logits for some images; these count as misclassified.",
            stacklevel=3,
        )
    right: list[bool] = ((logits.argmax(1) == y) & ~broken).tolist()
    return right
