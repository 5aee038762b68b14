"""Datasets as Lightning data modules: images in [0, 1] and seeded, stratified splits."""

from __future__ import annotations

from nni_robust.data.cifar import CIFAR10, CIFAR100
from nni_robust.data.digits import Digits
from nni_robust.data.folder import ImageFolder
from nni_robust.data.image import ImageFiles
from nni_robust.data.imagenet import ImageNet
from nni_robust.data.loader import Examples, TensorLoader
from nni_robust.data.mnist import MNIST
from nni_robust.data.module import RobustDataModule, StoredDataModule
from nni_robust.data.svhn import SVHN
from nni_robust.data.synthetic import Synthetic
from nni_robust.data.tiny_imagenet import TinyImageNet

DATASETS: dict[str, type[RobustDataModule]] = {
    "digits": Digits,
    "mnist": MNIST,
    "svhn": SVHN,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "tiny_imagenet": TinyImageNet,
    "imagenet": ImageNet,
    "image_folder": ImageFolder,
    "synthetic": Synthetic,
}

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DATASETS",
    "MNIST",
    "SVHN",
    "Digits",
    "Examples",
    "ImageFiles",
    "ImageFolder",
    "ImageNet",
    "RobustDataModule",
    "StoredDataModule",
    "Synthetic",
    "TensorLoader",
    "TinyImageNet",
]
