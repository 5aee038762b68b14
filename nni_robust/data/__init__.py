"""Data modules: seeded, stratified splits of images in [0, 1]."""

from __future__ import annotations

from nni_robust.data.base import RobustDataModule, TensorLoader
from nni_robust.data.cifar import CIFAR10
from nni_robust.data.digits import Digits
from nni_robust.data.mnist import MNIST
from nni_robust.data.synthetic import Synthetic

DATASETS: dict[str, type[RobustDataModule]] = {
    "digits": Digits,
    "cifar10": CIFAR10,
    "mnist": MNIST,
    "synthetic": Synthetic,
}

__all__ = [
    "CIFAR10",
    "DATASETS",
    "MNIST",
    "Digits",
    "RobustDataModule",
    "Synthetic",
    "TensorLoader",
]
