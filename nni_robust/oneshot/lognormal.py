"""The log-normal variables by which choices are weighed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

Rank = Literal["median", "mean", "lower", "sampled"]

_INITIAL_SPREAD = 1e-3  # of mu, as in PC-DARTS, so that no two choices start equal
_SIGMA_RANGE = (1e-3, 1.0)


class LogNormalWeights(nn.Module):
    r"""The log-normal variables of a search, one row a choice.

    .. math:: z = \mu + \sigma \epsilon, \qquad \alpha = e^z, \qquad \epsilon \sim N(0, 1)

    Choices of one label share a row, so all cells of a kind share their draws. A row starts at the
    median 1 / n for its n candidates.

    Parameters
    ----------
    sizes
        For every label the number of its candidates.
    initial_sigma
        Where the standard deviations start, in [1e-3, 1], the range that they keep.
    confidence_learning
        False fixes every standard deviation at 0: plain trainable weights.
    normalize
        Whether the expected weights of a row are made to sum to 1 before they are used, in the
        network and in the bound. The Fenton-Wilkinson approximation does not hold for the result.
    rank
        Which number decides at the end: the ``median`` :math:`\mu`; the ``mean``
        :math:`\mu + \sigma^2 / 2`; ``lower``, :math:`\mu - k \sigma`; ``sampled``, one draw.
    rank_deviations
        k of ``lower``.
    seed
        Of the start.

    Notes
    -----
    [RACL] Sec. 2.3. The paper gives no start: the medians are where softmax starts in PC-DARTS,
    sigma is 0.1.
    """

    present: Tensor

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        initial_sigma: float = 0.1,
        confidence_learning: bool = True,
        normalize: bool = False,
        rank: Rank = "median",
        rank_deviations: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        low, high = _SIGMA_RANGE
        if not low <= initial_sigma <= high:
            raise ValueError(f"initial_sigma must lie in [{low}, {high}], got {initial_sigma!r}.")
        if rank not in ("median", "mean", "lower", "sampled"):
            raise ValueError(f"rank must be 'median', 'mean', 'lower' or 'sampled', got {rank!r}.")
        if rank_deviations < 0:
            raise ValueError(f"rank_deviations must not be negative, got {rank_deviations!r}.")
        self.rows = {label: row for row, label in enumerate(sizes)}
        self.sizes = dict(sizes)
        self.confidence_learning = confidence_learning
        self.normalize = normalize
        self.rank = rank
        self.rank_deviations = rank_deviations
        columns = torch.arange(max(sizes.values(), default=0))
        count = torch.tensor(list(sizes.values()))[:, None]
        self.register_buffer("present", columns < count, persistent=False)  # (G, M)
        generator = torch.Generator().manual_seed(seed)
        start = _INITIAL_SPREAD * torch.randn(self.present.shape, generator=generator)
        self.mu = nn.Parameter((start - count.log()) * self.present)
        self.log_sigma = nn.Parameter(torch.full_like(self.mu, math.log(initial_sigma)))
        self.log_sigma.requires_grad_(confidence_learning)
        self._drawn: Tensor | None = None
        self._ranking: Tensor | None = None

    def log_normals(self) -> tuple[Tensor, Tensor]:
        """Give mean and variance of the underlying normals, shape (G, M) each, as they are used."""
        variance = self._sigma() ** 2
        if not self.normalize:
            return self.mu, variance
        expected = (self.mu + variance / 2).masked_fill(~self.present, -math.inf)
        return self.mu - expected.logsumexp(1, keepdim=True), variance

    def draw(self, generator: Generator | None) -> None:
        """Draw all weights anew; without a generator take their medians."""
        mu, _ = self.log_normals()
        if generator is None:
            self._drawn = mu.exp()
            return
        noise = torch.randn(mu.shape, generator=generator).to(mu.device)
        self._drawn = (mu + self._sigma() * noise).exp()

    def __getitem__(self, label: str) -> Tensor:
        """Give the weights of a choice as last drawn, shape (n,)."""
        if self._drawn is None:
            raise RuntimeError("weights must be drawn before the network runs: call draw().")
        return self._drawn[self.rows[label], : self.sizes[label]]

    def clamp(self) -> None:
        """Bring the standard deviations back into their range."""
        low, high = _SIGMA_RANGE
        with torch.no_grad():
            self.log_sigma.clamp_(math.log(low), math.log(high))

    def settle(self, generator: Generator) -> None:
        """Fix the numbers by which candidates are ranked, as of now.

        Parameters
        ----------
        generator
            Of the draw, where the rank is by one.
        """
        with torch.no_grad():
            mu, variance = self.log_normals()
            self._ranking = {
                "median": lambda: mu.clone(),
                "mean": lambda: mu + variance / 2,
                "lower": lambda: mu - self.rank_deviations * variance.sqrt(),
                "sampled": lambda: (
                    mu + variance.sqrt() * torch.randn(mu.shape, generator=generator).to(mu.device)
                ),
            }[self.rank]()

    def ranking(self, label: str) -> Tensor:
        """Give the numbers by which the candidates of a choice are ranked, shape (n,)."""
        ranking = self.mu.detach() if self._ranking is None else self._ranking
        return ranking[self.rows[label], : self.sizes[label]]

    def medians(self, label: str) -> Tensor:
        """Give the logarithms of the medians of a choice, shape (n,)."""
        return self.mu.detach()[self.rows[label], : self.sizes[label]]

    def _sigma(self) -> Tensor:
        """Give the standard deviations, 0 where there is no candidate."""
        if not self.confidence_learning:
            return torch.zeros_like(self.mu)
        return self.log_sigma.exp() * self.present

    def __getstate__(self) -> dict[str, Any]:
        # A draw belongs to the graph of one step: copies of a supernet go without.
        return {**self.__dict__, "_drawn": None}
