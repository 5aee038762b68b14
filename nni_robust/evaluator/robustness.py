"""Clean and robust accuracy of a network."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nni
import torch
from nni.nas.evaluator import Evaluator
from torch import Tensor, nn

from nni_robust.attack import PGD, Attack
from nni_robust.evaluator.outcome import NOT_ASKED, OPEN, RIGHT, WRONG, Images, Robustness
from nni_robust.evaluator.progress_file import Store
from nni_robust.training.channels_last import channels_last


def measure_robustness(
    network: nn.Module,
    x: Images,
    y: Tensor,
    *,
    attacks: Sequence[Attack],
    batch_size: int = 128,
    seed: int = 0,
    keep_fooled: bool = False,
    state: str | Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Robustness:
    """Attack every image with every attack of a suite, until it is fooled.

    The network runs in evaluation mode and in float32 proper, without autocast and TF32, and is
    left as found. The attacks run one after the other, each on full batches of the images that
    are left.

    Parameters
    ----------
    network
        Maps (N, C, H, W) to logits.
    x, y
        Images in [0, 1], (N, C, H, W), and labels, (N,), on any device; of images that a dataset
        leaves in files, a batch at a time is read.
    attacks
        The suite.
    batch_size
        Images attacked at once.
    seed
        Of the attacks' random starts. Every batch of every attack starts with it, so that no
        result depends on what ran before.
    keep_fooled
        Whether an image that one attack has fooled stays for those that follow, so that each
        attack has an accuracy of its own.
    state
        Folder of a file that is kept up to date after every batch, and from which a stopped
        evaluation goes on to the same result; None for none. Every evaluation has its own file.
    progress
        Called with the number of images that are settled. Each attack settles all images, and so
        does the pass over the clean ones before.

    Raises
    ------
    ValueError
        If the suite is empty or ambiguous, if the network does not compute in float32 or float64,
        or if the state is damaged.
    """
    check_suite("attacks", attacks)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}.")
    _check_precision(network)
    report = progress or (lambda done: None)
    device = device_of(network, x)
    conditions = {"batch_size": batch_size, "seed": seed, "keep_fooled": keep_fooled}
    store = None if state is None else Store(state, network, x, y, attacks, **conditions)
    names = ["clean", *(attack.name for attack in attacks)]
    known = store.read() if store else None
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
                    right = _withstands(network, images, labels, attack=attack, seed=seed)
                    for index, is_right in zip(batch, right, strict=True):
                        outcomes[name][index] = RIGHT if is_right else WRONG
                    if store:
                        store.write(_joined(outcomes))
                report(len(batch))
    return Robustness(outcomes=_joined(outcomes))


def attacked_accuracy(
    network: nn.Module,
    x: Images,
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
    network, x, y, attacks, batch_size, seed, progress
        As for :func:`measure_robustness`; fooled images stay.

    Returns
    -------
    dict
        Fractions: ``clean``, one key an attack (``pgd20``), and ``robust``, the worst case.
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
    """Evaluator that attacks a network as it is, and trains nothing.

    Reports a dict with ``default``, the accuracy under the worst attack of the suite for each
    image, with ``clean`` and with one key an attack.

    Parameters
    ----------
    data
        Data module; see :mod:`nni_robust.data`.
    attacks
        The suite.
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
        attacks: Sequence[Attack] = (PGD(),),  # immutable values
        split: str = "validation",
        num_examples: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        if split not in ("train", "validation", "test"):
            raise ValueError(f"split must be 'train', 'validation' or 'test', got {split!r}.")
        self.data = data
        self.attacks = list(attacks)
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


def _check_precision(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"network must hold float32 when it is evaluated, got {name} in "
                f"{parameter.dtype}. Call network.float() before."
            )


def device_of(network: nn.Module, x: Images) -> torch.device:
    """Tell where a network runs: where its weights are, or, without any, where the images are."""
    weight = next(network.parameters(), None)
    return x[:1].device if weight is None else weight.device


def _asked(outcomes: dict[str, list[str]], name: str, keep_fooled: bool) -> list[int]:
    """List the images that an attack is tried on."""
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


def _withstands(
    network: nn.Module, x: Tensor, y: Tensor, *, attack: Attack | None, seed: int
) -> list[bool]:
    """Tell which images of a batch are classified right, attacked or, by None, clean."""
    if attack is not None:
        x = attack(network, x, y, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits = network(x)
    # argmax takes NaN for the largest, which would let a broken network guess.
    broken = logits.isnan().any(1)
    if attack is None and broken.any():
        warnings.warn(
            "The network gives logits that are no numbers; such images count as misclassified.",
            stacklevel=3,
        )
    right: list[bool] = ((logits.argmax(1) == y) & ~broken).tolist()
    return right


@contextlib.contextmanager
def as_deployed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Run a network in evaluation mode and in float32, the same way every time."""
    modes = [(module, module.training) for module in network.modules()]
    exact = exact_arithmetic() if device.type == "cuda" else contextlib.nullcontext()
    try:
        network.eval()
        with exact, torch.autocast(device.type, enabled=False), channels_last(network):
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Let CUDA multiply in float32 proper, and the same way every time."""
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = [
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    if hasattr(matmul, "fp32_precision"):  # torch 2.9; older switches may no longer be read there
        switches += [(part, "fp32_precision", "ieee") for part in (matmul, cudnn.conv)]
    else:
        switches += [(part, "allow_tf32", False) for part in (matmul, cudnn)]
    found = [getattr(part, name) for part, name, _ in switches]
    try:
        for part, name, value in switches:
            setattr(part, name, value)
        yield
    finally:
        for (part, name, _), value in zip(switches, found, strict=True):
            setattr(part, name, value)
