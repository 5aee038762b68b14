"""Compare the time of PGD-7 with that of foolbox, on a small convolutional network.

Run ``OMP_NUM_THREADS=1 python benchmarks/attack_step.py``. The two implementations alternate, so
that other work on the machine affects both.

Last figures: AMD EPYC, one thread, Python 3.11.7, torch 2.13.0+cpu, foolbox 3.3.4; 64 images of
32 x 32 pixels, 30 repetitions.

    nni_robust  median   151.2 ms  (quartiles 145.0 to 156.3)
    foolbox     median   181.3 ms  (quartiles 176.4 to 192.8)
    nni_robust / foolbox: 0.83
"""

from __future__ import annotations

import platform
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nni_robust.attack import PGD

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox

REPEATS = 30


def build_network() -> nn.Sequential:
    """Return four convolutions with BatchNorm, 16 to 64 channels wide."""
    layers: list[nn.Module] = []
    for channels_in, channels_out, stride in [(3, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1)]:
        layers += [
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def seconds(run: Callable[[], Tensor]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Print the median and quartiles of both times, and the ratio of the medians."""
    torch.manual_seed(0)
    network = build_network().eval()
    x, y = torch.rand(64, 3, 32, 32), torch.randint(10, (64,))
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.Misclassification(y)
    theirs = foolbox.attacks.LinfPGD(abs_stepsize=2 / 255, steps=7)
    ours = PGD(steps=7)
    runs: dict[str, Callable[[], Tensor]] = {
        "nni_robust": lambda: ours(network, x, y),
        "foolbox": lambda: theirs.run(model, x, criterion, epsilon=8 / 255),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(REPEATS + 3):
        for name, run in runs.items():
            taken = seconds(run)
            if repeat >= 3:  # the first three are warm-up
                times[name].append(1000 * taken)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"foolbox {foolbox.__version__}, {torch.get_num_threads()} threads"
    )
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        print(f"{name:<10}  median {median:7.1f} ms  (quartiles {low:.1f} to {high:.1f})")
    ratio = statistics.median(times["nni_robust"]) / statistics.median(times["foolbox"])
    print(f"nni_robust / foolbox: {ratio:.2f}")


if __name__ == "__main__":
    main()
