"""Compare the time of forward and backward passes in channels-last and in default memory layout.

    OMP_NUM_THREADS=1 python benchmarks/channels_last.py

The two copies of a network alternate on the same batch; the smallest time of each is printed. A
training pass computes gradients of the weights, an attack pass gradients of the images. It runs on
the CPU, the only device for which nni_robust changes the layout; see
nni_robust/network_state.py.

Last figures, on an AMD EPYC shared with other work:

    torch 2.13.0+cpu, 1 threads, batches of 64
                       training: plain     last  ratio     attack: plain     last  ratio
    robnet-large               2035 ms  1601 ms   0.79           1383 ms   961 ms   0.70
    robnet-free                1285 ms  1009 ms   0.79            883 ms   661 ms   0.75
    racl                       1150 ms   793 ms   0.69            577 ms   456 ms   0.79
    densenet121                 570 ms   371 ms   0.65            361 ms   247 ms   0.68
    resnet18                    131 ms    98 ms   0.75             83 ms    68 ms   0.83
"""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from nni_robust.data import CIFAR10
from nni_robust.network_state import put_channels_last
from nni_robust.settings.networks import build_network

NETWORKS = ("robnet-large", "robnet-free", "racl", "densenet121", "resnet18")
SIZE, BATCH, REPEATS = 0.22, 64, 4


def seconds(network: nn.Module, x: Tensor, *, training: bool) -> float:
    """Return the seconds of one forward and backward pass."""
    network.train(training).requires_grad_(training)
    x = x.clone().requires_grad_(not training)
    started = time.perf_counter()
    network(x).sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Print one line per network."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batches of {BATCH}")
    heads = [f"{what + ': plain':>18}{'last':>9}{'ratio':>7}" for what in ("training", "attack")]
    print(" " * 16 + "".join(heads))
    x = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name in NETWORKS:
        torch.manual_seed(0)
        plain = build_network({"name": name, "size": SIZE}, CIFAR10(root="unread"))
        last = copy.deepcopy(plain)
        put_channels_last(last)
        line = f"{name:<16}"
        for training in (True, False):
            runs = [
                [seconds(network, x, training=training) for network in (plain, last)]
                for _ in range(REPEATS)
            ]
            before, after = (1000 * min(times) for times in zip(*runs, strict=True))
            line += f"{before:15.0f} ms{after:6.0f} ms{after / before:7.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
