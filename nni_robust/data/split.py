"""Stratified orders, of which the splits are cut."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_robust.data.image import Images

#: Seed of what must not depend on the user's seed, so that every run has the same test set.
FIXED_SEED = 0


def stratified_order(y: Tensor, seed: int) -> Tensor:
    """Draw an order of the images whose every prefix is stratified.

    The k-th image of a class of n takes the place (k - 1/2) / n of the way; the images are sorted
    by place, ties at random. A prefix so shares its length among the classes as Sainte-Laguë's
    method shares seats among parties, in nearly all cases within one image of proportion.

    Parameters
    ----------
    y
        Labels, shape (N,).
    seed
        Decides which images of a class come first.

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
    place = torch.empty(len(y), dtype=torch.float64)
    place[by_class] = (rank.double() + 0.5) / sizes.repeat_interleave(sizes)
    return order[place.argsort(stable=True)]


def set_test_aside(x: Images, y: Tensor) -> tuple[Images, Tensor, Images, Tensor]:
    """Divide a dataset that has no test images of its own.

    A stratified fifth, the same for every seed, becomes the test set.

    Returns
    -------
    x, y, x_test, y_test
        What stays for training and validation, and the test set.
    """
    order = stratified_order(y, FIXED_SEED)
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    return x[train], y[train], x[test], y[test]
