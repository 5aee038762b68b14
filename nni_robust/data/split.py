"""Stratified orders, from which the splits are cut."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_robust.data.image import StoredImages

FIXED_SEED = 0
"""Seed of what must not depend on the user's seed, such as the test set."""


def stratified_order(y: Tensor, seed: int) -> Tensor:
    """Return a random order of the images in which every prefix is stratified.

    In a class of n images, the k-th image has the position (k - 1/2) / n. The images are sorted by
    position, ties at random. A prefix thus divides its length among the classes as Sainte-Laguë's
    method divides seats among parties, nearly always within one image of exact proportion.

    Parameters
    ----------
    y
        Labels, shape (N,).
    seed
        Decides the order of the images within a class.

    Returns
    -------
    order
        A permutation of ``0 ... N - 1``, shape (N,).

    Examples
    --------
    >>> y = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> y[stratified_order(y, seed=3)][:3].sum().item()
    1
    """
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    by_class = y[order].argsort(stable=True)
    sizes = y.bincount()
    firsts = sizes.cumsum(0) - sizes
    rank = torch.arange(len(y)) - firsts.repeat_interleave(sizes)  # within the class
    position = torch.empty(len(y), dtype=torch.float64)
    position[by_class] = (rank.double() + 0.5) / sizes.repeat_interleave(sizes)
    return order[position.argsort(stable=True)]


def set_test_aside(x: StoredImages, y: Tensor) -> tuple[StoredImages, Tensor, StoredImages, Tensor]:
    """Divide a dataset that has no test images.

    A stratified fifth, the same for every seed, becomes the test set.

    Parameters
    ----------
    x
        Images, shape (N, C, H, W).
    y
        Labels, shape (N,).

    Returns
    -------
    x, y, x_test, y_test
        The images and labels for training and validation, and those of the test set.
    """
    order = stratified_order(y, FIXED_SEED)
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    return x[train], y[train], x[test], y[test]
