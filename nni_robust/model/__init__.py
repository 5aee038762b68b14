"""Reference networks: hand-designed classifiers to compare searched networks with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nni_robust.model.denoise import DenoisingBlock
from nni_robust.model.densenet import densenet121
from nni_robust.model.mobilenet import mobilenet_v2
from nni_robust.model.network import ReferenceNetwork
from nni_robust.model.resnet import resnet, resnext29
from nni_robust.model.vgg import vgg
from nni_robust.model.wide_resnet import wide_resnet

__all__ = [
    "MODELS",
    "DenoisingBlock",
    "ReferenceNetwork",
    "densenet121",
    "mobilenet_v2",
    "resnet",
    "resnext29",
    "vgg",
    "wide_resnet",
]

MODELS: dict[str, Callable[..., ReferenceNetwork]] = {
    "resnet18": partial(resnet, 18),
    "resnet34": partial(resnet, 34),
    "resnet50": partial(resnet, 50),
    "resnet101": partial(resnet, 101),
    "resnet152": partial(resnet, 152),
    "wrn28_10": partial(wide_resnet, 28, 10),
    "resnext29_2x64d": partial(resnext29, 2, 64),
    "densenet121": densenet121,
    "vgg16": partial(vgg, 16),
    "vgg19": partial(vgg, 19),
    "mobilenet_v2": mobilenet_v2,
}
