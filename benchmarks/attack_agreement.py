"""Compare every attack with that of foolbox, adv-lib or pyautoattack, on one trained network.

    python benchmarks/attack_agreement.py '{name: resnet18, size: 0.125}' WEIGHTS --root DATA

WEIGHTS is a state dict, such as ``best.pt`` from ``python -m nni_robust train``. DATA is the folder
that contains CIFAR-10. ``--source-weights`` adds the transfer attack, with another training of the
network as its source. Requirements: ``pip install -e '.[test]'`` and ``pip install --no-deps
adv-lib``.

Both implementations attack the same test images. Columns: ``differ`` is the number of images that
withstand one implementation but not the other. ``p`` is the p-value of McNemar's exact test: the
probability that the differing images split at least this unevenly if both sides are equally likely
(1 if no image differs). ``radius`` is the largest of our perturbations as a share of epsilon.

The implementations are not identical. Random starts differ. foolbox's MI-FGSM takes the sign of
gradients before it accumulates them. adv-lib's PGD returns the last misclassified image on its way
but does not evaluate its last step.

Last figures: a ResNet-18 with 0.30 M parameters, trained as docs/comparison.md says (seed 2); one
thread of an AMD EPYC shared with other work, so that ratios vary by a factor of two. The
percentages are the share of correctly classified images that withstand the attack: 141 of 500
images were classified correctly; for AutoAttack's attacks and adv-lib's APGD-T, FAB and APGD in l2,
22 of 60.

    attack          norm  library         ours  theirs  differ   ours     theirs  ratio
    fgsm            linf  foolbox        78.7%   78.7%       0    0.2 s    0.1 s   1.39
    pgd20           linf  foolbox        76.6%   76.6%       0    3.0 s    2.9 s   1.01
    transfer_pgd20  linf  foolbox        95.0%   95.0%       0    3.1 s    4.6 s   0.67
    mim20           linf  foolbox        78.0%   78.0%       0    3.0 s    3.1 s   0.98
    deepfool50      linf  foolbox        71.6%   71.6%       0    1.6 s    9.7 s   0.17
    noise10         linf  foolbox        98.6%   98.6%       0    0.6 s    0.6 s   0.91
    fgsm            l2    foolbox        83.0%   83.0%       0    0.2 s    0.2 s   0.94
    pgd20           l2    foolbox        79.4%   79.4%       0    3.5 s    3.7 s   0.96
    transfer_pgd20  l2    foolbox        95.0%   94.3%       1    3.8 s    4.5 s   0.85
    mim20           l2    foolbox        80.1%   80.1%       0    3.0 s    3.3 s   0.90
    deepfool50      l2    foolbox        76.6%   76.6%       0    3.3 s   44.9 s   0.07
    noise10         l2    foolbox        98.6%   98.6%       0    0.8 s    1.3 s   0.60
    pgd20           linf  adv-lib        76.6%   77.3%       1    4.6 s    5.2 s   0.89
    pgd20_cw        linf  adv-lib        70.2%   70.2%       0    5.4 s    5.1 s   1.06
    pgd20_dlr       linf  adv-lib        74.5%   74.5%       0    5.0 s    4.9 s   1.03
    deepfool50      linf  adv-lib        71.6%   71.6%       0    2.7 s    3.3 s   0.84
    apgd_ce         linf  adv-lib        77.3%   77.3%       0   26.2 s   22.4 s   1.17
    apgd_t          linf  adv-lib        77.3%   77.3%       0   17.7 s   17.3 s   1.03
    fab_t           linf  adv-lib        77.3%   77.3%       0  163.8 s   86.1 s   1.90
    deepfool50      l2    adv-lib        76.6%   76.6%       0    3.3 s    3.5 s   0.93
    apgd_ce         l2    adv-lib        90.9%   90.9%       0   10.9 s    9.7 s   1.13
    apgd_t          l2    adv-lib        86.4%   86.4%       0   93.3 s  108.6 s   0.86
    fab_t           l2    adv-lib        86.4%   86.4%       0   96.9 s  110.1 s   0.88
    apgd_ce         linf  pyautoattack   86.4%   86.4%       0    2.4 s    2.6 s   0.94
    apgd_t          linf  pyautoattack   77.3%   77.3%       0   18.5 s   18.5 s   1.00
    fab_t           linf  pyautoattack   77.3%   77.3%       0   32.8 s   33.0 s   1.00
    square          linf  pyautoattack   77.3%   77.3%       0   43.3 s   65.4 s   0.66
    apgd_ce         l2    pyautoattack   90.9%   90.9%       0    3.8 s    3.9 s   0.97
    apgd_t          l2    pyautoattack   86.4%   86.4%       0   30.9 s   32.2 s   0.96
    fab_t           l2    pyautoattack   86.4%   86.4%       0   35.3 s   34.6 s   1.02
    square          l2    pyautoattack   90.9%   90.9%       0   99.8 s   67.8 s   1.47
"""

from __future__ import annotations

import argparse
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pyautoattack import AutoAttack
from scipy.stats import binomtest
from torch import Tensor, nn

from nni_robust.attack import (
    APGD_CE,
    APGD_T,
    FAB_T,
    FGSM,
    MIM,
    PGD,
    Attack,
    DeepFool,
    Noise,
    Square,
    ThreatModel,
    Transfer,
)
from nni_robust.command.options import TargetOptions, read_network
from nni_robust.command.target import targets
from nni_robust.data import CIFAR10
from nni_robust.functional.interval import accuracy_interval

# adv-lib imports these packages for pretrained networks and plots, which its attacks do not need.
for absent in ("torchvision", "visdom"):
    module = types.ModuleType(absent)
    module.__dict__.update(models=None, Visdom=object)
    sys.modules[absent] = module

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox
    from adv_lib.attacks import apgd, apgd_targeted, df, fab, pgd_linf

LINF, L2 = ThreatModel(epsilon=8 / 255), ThreatModel(norm="l2", epsilon=0.5)
BATCH = 250

Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One of our attacks and the implementation of another library."""

    attack: Attack
    library: str
    reference: Run


def by_foolbox(attack: Any, epsilon: float | None) -> Run:
    """Wrap an attack of foolbox; without an epsilon it searches for the nearest image."""

    def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device=x.device)
        criterion = foolbox.criteria.Misclassification(y)
        options = {} if epsilon is None else {"epsilon": epsilon}
        found: Tensor = attack.run(model, x, criterion, **options)
        return found

    return run


def clipped(run: Run, threat_model: ThreatModel) -> Run:
    """Project the images of an attack that searches for the nearest one onto the ball."""
    return lambda network, x, y: threat_model.project(run(network, x, y), x)


def by_autoattack(name: str, threat_model: ThreatModel) -> Run:
    """Wrap one attack of AutoAttack's own evaluation."""

    def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        norm = {"linf": "Linf", "l2": "L2"}[threat_model.norm]
        adversary = AutoAttack(
            network, norm=norm, eps=threat_model.epsilon, version="standard", seed=0
        )
        adversary.attacks_to_run = [name]
        found: Tensor = adversary.run_standard_evaluation(x, y, batch_size=len(x))[0]
        return found

    return run


def cases(source: nn.Module | None) -> Iterator[Case]:
    """Yield the pairs of attacks to compare."""
    attacks = foolbox.attacks
    for ball, prefix in ((LINF, "Linf"), (L2, "L2")):
        epsilon, step = ball.epsilon, ball.epsilon / 4
        order = float("inf") if ball is LINF else 2
        fast = getattr(attacks, f"{prefix}FastGradientAttack")()
        yield Case(FGSM(threat_model=ball), "foolbox", by_foolbox(fast, epsilon))
        pgd = getattr(attacks, f"{prefix}ProjectedGradientDescentAttack")
        their_pgd = by_foolbox(pgd(abs_stepsize=step, steps=20), epsilon)
        our_pgd = PGD(threat_model=ball, step_size=step)
        yield Case(our_pgd, "foolbox", their_pgd)
        if source is not None:
            from_source: Run = lambda _, x, y, run=their_pgd: run(source, x, y)  # noqa: E731
            yield Case(Transfer(source=source, attack=our_pgd), "foolbox", from_source)
        if ball is LINF:
            options = {"ε": epsilon, "absolute_step_size": step, "steps": 20}
            for theirs, loss in (("ce", "cross_entropy"), ("dl", "cw"), ("dlr", "dlr")):
                run = partial(pgd_linf, loss_function=theirs, **options)
                yield Case(PGD(threat_model=ball, step_size=step, loss=loss), "adv-lib", run)
        momentum = getattr(attacks, f"{prefix}MomentumIterativeFastGradientMethod", None)
        if momentum is not None:
            run = by_foolbox(momentum(abs_stepsize=step, steps=20), epsilon)
            yield Case(MIM(threat_model=ball, step_size=step), "foolbox", run)
        deepfool = by_foolbox(getattr(attacks, f"{prefix}DeepFoolAttack")(), None)
        yield Case(DeepFool(threat_model=ball), "foolbox", clipped(deepfool, ball))
        nearest = clipped(partial(df, steps=50, norm=order), ball)
        yield Case(DeepFool(threat_model=ball), "adv-lib", nearest)
        noise = {
            "Linf": attacks.LinfRepeatedAdditiveUniformNoiseAttack,
            "L2": attacks.L2RepeatedAdditiveGaussianNoiseAttack,
        }[prefix](repeats=10)
        yield Case(Noise(threat_model=ball), "foolbox", by_foolbox(noise, epsilon))
        parts = {"apgd-ce": APGD_CE, "apgd-t": APGD_T, "fab-t": FAB_T, "square": Square}
        for name, part in parts.items():
            yield Case(part(threat_model=ball), "pyautoattack", by_autoattack(name, ball))
        bound = {"eps": epsilon, "norm": order}
        run = partial(apgd, loss_function="ce", **bound)
        yield Case(APGD_CE(threat_model=ball), "adv-lib", run)
        run = partial(apgd_targeted, num_targets=9, **bound)
        yield Case(APGD_T(threat_model=ball), "adv-lib", run)
        run = partial(fab, norm=order, ε=epsilon, targeted_restarts=True, restarts=9)
        yield Case(FAB_T(threat_model=ball), "adv-lib", clipped(run, ball))


def standing(run: Run, network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return which images withstand an attack, the attacked images and the seconds it took."""
    torch.manual_seed(0)
    started = time.perf_counter()
    parts = [run(network, *batch) for batch in zip(x.split(BATCH), y.split(BATCH), strict=True)]
    taken = time.perf_counter() - started
    attacked = torch.cat(parts).detach()
    with torch.no_grad():
        right = network(attacked).argmax(1) == y
    return right, attacked, taken


def lengths(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    """Return the norm of every perturbation, shape (N,)."""
    return torch.linalg.vector_norm(
        (x_adv - x).flatten(1), ord=float("inf") if norm == "linf" else 2, dim=1
    )


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("network")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--source-weights", type=Path)
    parser.add_argument("--root", default="data")
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="part of a line: 'square l2 pyautoattack'"
    )
    options = parser.parse_args()
    data = CIFAR10(root=options.root)
    section = read_network(options.network)
    network, source = (
        weights and targets(TargetOptions(network=section, weights=weights), data)[0].network
        for weights in (options.weights, options.source_weights)
    )
    for parameter in network.parameters():
        parameter.requires_grad_(False)  # some libraries would compute these gradients
    x, y = data.examples("test", options.limit)
    with torch.no_grad():
        clean = network(x).argmax(1) == y
    low, high = accuracy_interval(int(clean.sum()), len(x))
    print(f"clean {clean.float().mean():.1%} ({low:.1%} to {high:.1%}) of {len(x)} test images")
    x, y = x[clean], y[clean]  # AutoAttack skips the others, foolbox attacks them
    print(f"the {len(x)} correctly classified images:")
    print(
        f"{'attack':<16}{'norm':<6}{'library':<14}{'ours':>7}{'theirs':>8}{'95 % interval':>18}"
        f"{'differ':>8}{'p':>7}{'radius':>8}{'ours':>9}{'theirs':>9}{'ratio':>7}"
    )
    done: dict[Any, tuple[Tensor, Tensor, float]] = {}
    for case in cases(source):
        ball = case.attack.threat_model
        if options.only not in f"{case.attack.name} {ball.norm} {case.library}":
            continue
        key = case.attack.name, ball
        if key not in done:  # two libraries may have the same attack
            done[key] = standing(case.attack, network, x, y)
        ours, attacked, our_seconds = done[key]
        theirs, _, their_seconds = standing(case.reference, network, x, y)
        only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        differ = only_ours + only_theirs
        p = binomtest(only_ours, differ).pvalue if differ else 1.0
        low, high = accuracy_interval(int(theirs.sum()), len(x))
        share = float(lengths(attacked, x, ball.norm).max()) / ball.epsilon
        print(
            f"{case.attack.name:<16}{ball.norm:<6}{case.library:<14}"
            f"{ours.float().mean():7.1%}{theirs.float().mean():8.1%}"
            f"{f'{low:.1%} to {high:.1%}':>18}{differ:8}{p:7.2f}{share:8.4f}"
            f"{our_seconds:7.1f} s{their_seconds:7.1f} s{our_seconds / their_seconds:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
