"""Images generated from a seed, for tests and quick trials."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nni_robust.check import SettingError, check_count
from nni_robust.data.module import RobustDataModule
from nni_robust.data.split import FIXED_SEED

# Standard deviation per pixel. The patterns are in [0.2, 0.8], so it rarely leaves [0, 1].
_NOISE = 0.1


@dataclass(kw_only=True, eq=False, repr=False)
class Synthetic(RobustDataModule):
    """One smooth random pattern per class, plus noise: easy to learn, of any size.

    The images are the same for every seed; the seed decides the split and the order.
    Augmentation, off by default, shifts images by up to one pixel.

    Parameters
    ----------
    num_classes
        Number of classes, at least 2, all of the same frequency.
    image_shape
        Channels, height and width, each at least 1.
    num_examples
        Number of images for training and validation together, at least ``num_classes``. The test
        set has the same number.
    batch_size, validation_split, seed, augment, limit
        As for :class:`RobustDataModule`.
    """

    num_classes: int = 10
    image_shape: tuple[int, int, int] = (3, 8, 8)
    num_examples: int = 1000

    crop_padding = 1

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes, least=2)
        check_count("num_examples", self.num_examples, least=self.num_classes)
        if len(self.image_shape) != 3:
            raise SettingError(
                f"must be (channels, height, width), got {self.image_shape!r}.", "image_shape"
            )
        for size in self.image_shape:
            check_count("image_shape", size)
        channels, height, width = self.image_shape
        self.image_shape = (channels, height, width)
        super().__post_init__()

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(FIXED_SEED)
        channels, height, width = self.image_shape
        coarse = 0.2 + 0.6 * torch.rand(self.num_classes, channels, 3, 3, generator=generator)
        patterns = interpolate(coarse, size=(height, width), mode="bilinear")  # (K, C, H, W)
        y = torch.arange(self.num_examples) % self.num_classes
        noise = torch.randn(2, self.num_examples, *self.image_shape, generator=generator)
        x, x_test = (patterns[y] + _NOISE * noise).clamp(0, 1)
        return x, y, x_test, y
