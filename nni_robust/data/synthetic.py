"""Images drawn from a seed, for tests and for trying things out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nni_robust.data.loader import check_count
from nni_robust.data.module import RobustDataModule
from nni_robust.data.split import FIXED_SEED

NOISE = 0.1  # standard deviation per pixel; patterns span [0.2, 0.8], so it rarely leaves [0, 1]


class Synthetic(RobustDataModule):
    """A smooth random pattern a class, plus noise: easy to learn, of any size.

    The images are the same for every seed; the seed decides the split and the order.
    Augmentation, off by default, shifts by one pixel.

    Parameters
    ----------
    num_classes
        Classes, at least 2, equally frequent.
    image_shape
        Channels, height and width.
    num_examples
        Images for training and validation together; the test set has as many again.
    batch_size, validation_split, seed, augment, limit
        As ``RobustDataModule``.
    """

    crop_padding = 1

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: tuple[int, int, int] = (3, 8, 8),
        num_examples: int = 1000,
        batch_size: int = 128,
        validation_split: float = 0.1,
        seed: int = 0,
        augment: bool = False,
        limit: int | None = None,
    ) -> None:
        check_count("num_classes", num_classes, 2)
        check_count("num_examples", num_examples, num_classes)
        if len(image_shape) != 3:
            raise ValueError(f"image_shape must be (channels, height, width), got {image_shape!r}.")
        channels, height, width = image_shape
        for size in image_shape:
            check_count("image_shape", size, 1)
        self.num_classes = num_classes
        self.image_shape = (channels, height, width)
        self.num_examples = num_examples
        super().__init__(
            batch_size=batch_size,
            validation_split=validation_split,
            seed=seed,
            augment=augment,
            limit=limit,
        )

    def _load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(FIXED_SEED)
        channels, height, width = self.image_shape
        coarse = 0.2 + 0.6 * torch.rand(self.num_classes, channels, 3, 3, generator=generator)
        patterns = interpolate(coarse, size=(height, width), mode="bilinear")  # (K, C, H, W)
        y = torch.arange(self.num_examples) % self.num_classes
        noise = torch.randn(2, self.num_examples, *self.image_shape, generator=generator)
        x, x_test = (patterns[y] + NOISE * noise).clamp(0, 1)
        return x, y, x_test, y
