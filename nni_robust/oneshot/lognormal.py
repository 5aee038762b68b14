"""The log-normal variables that weight operations and inputs, and the weights in use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from nni_robust.oneshot.options import SIGMA_RANGE, WeightOptions

_INITIAL_SPREAD = 1e-3  # of mu, as in PC-DARTS, so that no two candidates start equal


class LogNormalWeights(nn.Module):
    r"""The log-normal variables of a search, one row per choice.

    .. math:: z = \mu + \sigma \epsilon, \qquad \alpha = e^z, \qquad \epsilon \sim N(0, 1)

    Choices with the same label share a row, so all cells of one kind share their draws. The
    medians of a row with n candidates start at 1 / n.

    Parameters
    ----------
    sizes
        From the label of a choice to its number of candidates.
    options
        Initial values, and how candidates are ranked.
    seed
        Seed of the initial medians and of the draw of ``rank="sampled"``.

    Attributes
    ----------
    mu, log_sigma
        Parameters, shape (G, M) for G choices of at most M candidates.
    rows
        From a label to its row.
    present
        True where a row has a candidate, shape (G, M).

    Notes
    -----
    [RACL] Sec. 2.3. The paper gives no initial values. The medians are those of PC-DARTS, where
    softmax starts; sigma is 0.1.
    """

    present: Tensor

    def __init__(
        self,
        sizes: Mapping[str, int],
        options: WeightOptions = WeightOptions(),  # noqa: B008  # an immutable value
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.options = options
        self.seed = seed
        self.sizes = dict(sizes)
        self.rows = {label: row for row, label in enumerate(sizes)}
        columns = torch.arange(max(sizes.values(), default=0))
        count = torch.tensor(list(sizes.values()))[:, None]
        self.register_buffer("present", columns < count, persistent=False)  # (G, M)
        generator = torch.Generator().manual_seed(seed)
        start = _INITIAL_SPREAD * torch.randn(self.present.shape, generator=generator)
        self.mu = nn.Parameter((start - count.log()) * self.present)
        self.log_sigma = nn.Parameter(torch.full_like(self.mu, math.log(options.initial_sigma)))
        self.log_sigma.requires_grad_(options.confidence_learning)

    def underlying_normals(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the underlying normals as they are used, (G, M) each."""
        variance = self._sigma() ** 2
        if not self.options.normalize:
            return self.mu, variance
        expected = (self.mu + variance / 2).masked_fill(~self.present, -math.inf)
        return self.mu - expected.logsumexp(1, keepdim=True), variance

    def sample(self, generator: Generator) -> Tensor:
        """Draw all weights, shape (G, M)."""
        mu, _ = self.underlying_normals()
        return (mu + self._sigma() * _noise(mu, generator)).exp()

    def scores(self, label: str) -> Tensor:
        """Return the numbers that rank the candidates of a choice, shape (n,)."""
        with torch.no_grad():
            mu, variance = self.underlying_normals()
            if self.options.rank == "mean":
                mu = mu + variance / 2
            elif self.options.rank == "lower":
                mu = mu - self.options.rank_deviations * variance.sqrt()
            elif self.options.rank == "sampled":
                # Not the stream of the search's draws, which starts at the seed itself.
                generator = torch.Generator().manual_seed(self.seed + 1)
                mu = mu + variance.sqrt() * _noise(mu, generator)
        return mu.detach()[self.rows[label], : self.sizes[label]]

    def log_medians(self, label: str) -> Tensor:
        """Return the logarithms of the medians of a choice, shape (n,)."""
        return self.mu.detach()[self.rows[label], : self.sizes[label]]

    def clamp(self) -> None:
        """Move the standard deviations back into their range."""
        low, high = SIGMA_RANGE
        with torch.no_grad():
            self.log_sigma.clamp_(math.log(low), math.log(high))

    def _sigma(self) -> Tensor:
        """Return the standard deviations, 0 where there is no candidate."""
        if not self.options.confidence_learning:
            return torch.zeros_like(self.mu)
        return self.log_sigma.exp() * self.present


class CurrentWeights:
    """The weights that a supernet uses now: the medians, or the last draw.

    All choices of a supernet hold the same object. It is not an ``nn.Module``: the log-normals
    belong to the search, and not to the parameters and the state of every choice.

    Parameters
    ----------
    log_normal
        The variables.
    """

    def __init__(self, log_normal: LogNormalWeights) -> None:
        self.log_normal = log_normal
        self._drawn: Tensor | None = None

    def __getitem__(self, label: str) -> Tensor:
        """Return the weights of a choice, shape (n,)."""
        table = self._drawn
        if table is None:
            with torch.no_grad():
                table = self.log_normal.underlying_normals()[0].exp()
        return table[self.log_normal.rows[label], : self.log_normal.sizes[label]]

    def draw(self, generator: Generator) -> None:
        """Draw all weights; gradients reach the variables through them."""
        self._drawn = self.log_normal.sample(generator)

    def use_medians(self) -> None:
        """Return to the medians, without gradients."""
        self._drawn = None

    def __getstate__(self) -> dict[str, Any]:
        # A draw belongs to the graph of one step: a copy of a supernet uses the medians.
        return {**self.__dict__, "_drawn": None}


def _noise(table: Tensor, generator: Generator) -> Tensor:
    return torch.randn(table.shape, generator=generator).to(table.device)
