"""Compare the log-normal approximation of a Lipschitz bound with draws of the bound itself.

Run ``OMP_NUM_THREADS=1 python benchmarks/lognormal_monte_carlo.py``. Every edge has 7 operations
with Lipschitz constants from 1 to 2.4. The network has 8 cells (6 normal, 2 reduction) of 4 nodes
with 2 to 5 incoming edges. Every line is based on the logarithms of 100,000 drawn bounds. Columns:

* mean and variance of the draws;
* for the corrected form: the absolute error of mu, the variance and its relative error;
* for Eq. 12 as printed: the relative error of the variance;
* coverage: the share of the draws below the quantile for 0.9, with the corrected form, with
  Eq. 12, and with the corrected form but sigma^2 in place of sigma.

``shared`` means that cells of the same type share their draws.

Last figures: AMD EPYC, one thread, Python 3.11.7, torch 2.13.0+cpu, 13 s. The corrected form is
accurate up to sigma 0.5; at sigma 1 its variance is 16 to 23 % too large.

                                          drawn              corrected Eq.12          coverage with
    sigma                           mu variance      mu variance error error  correct  Eq.12    s^2
    0.1 edge                     2.585  0.00157  +0.000  0.00158   +0%     -    0.900      -  0.521
    0.1 node of 2 edges          3.063  0.00593  +0.000  0.00595   +0%  -50%    0.902  0.823  0.542
    0.1 node of 5 edges          4.103  0.00246  -0.000  0.00246   +0%  -50%    0.900  0.819  0.524
    0.1 8 cells                118.003  0.12386  +0.001  0.12339   -0%  -51%    0.900  0.840  0.674
    0.1   shared, no node_type 118.006  0.61935  -0.003  0.12339  -80%  -90%    0.716  0.670  0.578
    0.1   shared, node_type    118.006  0.61935  -0.003  0.61938   +0%  -50%    0.900  0.826  0.842
    0.3 edge                     2.619  0.01459  +0.000  0.01468   +1%     -    0.900      -  0.564
    0.3 node of 2 edges          3.118  0.05455  +0.001  0.05504   +1%  -53%    0.902  0.829  0.622
    0.3 node of 5 edges          4.174  0.02294  -0.001  0.02310   +1%  -53%    0.899  0.819  0.579
    0.3 8 cells                120.051  1.14804  +0.000  1.14864   +0%  -53%    0.900  0.877  0.916
    0.3   shared, no node_type 120.060  5.73127  -0.009  1.14864  -80%  -91%    0.715  0.697  0.729
    0.3   shared, node_type    120.060  5.73127  -0.009  5.76524   +1%  -53%    0.900  0.842  0.999
    0.5 edge                     2.684  0.04279  -0.000  0.04364   +2%     -    0.901      -  0.611
    0.5 node of 2 edges          3.226  0.15726  +0.000  0.16130   +3%  -57%    0.903  0.833  0.702
    0.5 node of 5 edges          4.311  0.06816  -0.001  0.06982   +2%  -58%    0.901  0.817  0.637
    0.5 8 cells                124.061  3.35660  -0.023  3.41420   +2%  -58%    0.900  0.914  0.991
    0.5   shared, no node_type 124.076 16.72801  -0.038  3.41420  -80%  -92%    0.716  0.729  0.855
    0.5   shared, node_type    124.076 16.72801  -0.038 17.13367   +2%  -58%    0.901  0.857  1.000
    1   edge                     2.973  0.20684  -0.011  0.23890  +16%     -    0.910      -  0.751
    1   node of 2 edges          3.688  0.70229  -0.039  0.81545  +16%  -70%    0.907  0.848  0.885
    1   node of 5 edges          4.916  0.34212  -0.031  0.41934  +23%  -73%    0.912  0.820  0.813
    1   8 cells                141.530 15.80192  -1.132 18.69532  +18%  -71%    0.866  0.985  1.000
    1     shared, no node_type 141.559 78.50663  -1.162 18.69532  -76%  -94%    0.693  0.836  0.994
    1     shared, node_type    141.559 78.50663  -1.162 93.74581  +19%  -71%    0.897  0.912  1.000
"""

from __future__ import annotations

import platform
import time

import torch
from torch import Tensor

from nni_robust.functional.lognormal import (
    Form,
    confidence_constraint,
    lipschitz_log_normal,
)

DRAWS = 100_000
CONFIDENCE = 0.9
NUM_OPS = 7
EIGHT_CELLS = [0, 0, 1, 0, 0, 1, 0, 0]  # 0 normal, 1 reduction
CASES: list[tuple[str, list[int], list[int]]] = [  # name, cell types, inputs per node
    ("edge", [0], [1]),
    ("node of 2 edges", [0], [2]),
    ("node of 5 edges", [0], [5]),
    ("8 cells", EIGHT_CELLS, [2, 3, 4, 5]),
]


class Network:
    """Cells whose random weights depend only on the cell type, with equal operations everywhere."""

    def __init__(self, cells: list[int], sizes: list[int], sigma: float, beta_sigma: float) -> None:
        generator = torch.Generator().manual_seed(0)
        num_edges = sum(sizes)
        cell = torch.tensor(cells)
        self.sigma, self.beta_sigma = sigma, beta_sigma
        self.edge_type = (cell[:, None] * num_edges + torch.arange(num_edges)).flatten()  # (E,)
        self.node_type = (cell[:, None] * len(sizes) + torch.arange(len(sizes))).flatten()  # (N,)
        types = num_edges * (max(cells) + 1)
        self.alpha_mu = 0.2 * torch.randn(types, NUM_OPS, generator=generator).double()
        self.beta_mu = 0.2 * torch.randn(types, generator=generator).double()
        self.alpha_mu, self.beta_mu = self.alpha_mu[self.edge_type], self.beta_mu[self.edge_type]
        self.log_lipschitz = torch.linspace(1, 2.4, NUM_OPS, dtype=torch.float64).log()
        self.incoming = torch.full((len(cells) * len(sizes), max(sizes)), -1)  # (N, I)
        edge = 0
        for node in range(len(self.incoming)):
            size = sizes[node % len(sizes)]
            self.incoming[node, :size] = torch.arange(edge, edge + size)
            edge += size

    def moments(self, *, form: Form, shared: bool) -> tuple[Tensor, Tensor]:
        """Return mu and variance of the log-normal approximation."""
        return lipschitz_log_normal(
            alpha_mu=self.alpha_mu,
            alpha_variance=torch.full_like(self.alpha_mu, self.sigma**2),
            log_lipschitz=self.log_lipschitz.expand_as(self.alpha_mu),
            beta_mu=self.beta_mu[self.incoming],
            beta_variance=torch.full(self.incoming.shape, self.beta_sigma**2).double(),
            incoming=self.incoming,
            node_type=self.node_type if shared else None,
            form=form,
        )

    def draw(self, *, shared: bool) -> Tensor:
        """Return the logarithms of drawn bounds, shape (DRAWS,)."""
        generator = torch.Generator().manual_seed(1)
        num_edges = len(self.edge_type)
        source = self.edge_type if shared else torch.arange(num_edges)
        present = self.incoming >= 0
        node = torch.empty(num_edges, dtype=torch.long)
        node[self.incoming[present]] = present.nonzero()[:, 0]
        bounds = torch.empty(DRAWS, dtype=torch.float64)
        for part in bounds.split(2000):
            shape = (len(part), int(source.max()) + 1, NUM_OPS + 1)
            normal = torch.randn(shape, generator=generator, dtype=torch.float64)[:, source]
            alpha = (self.alpha_mu + self.sigma * normal[..., :NUM_OPS]).exp()
            beta = (self.beta_mu + self.beta_sigma * normal[..., NUM_OPS]).exp()
            edges = beta * (alpha * self.log_lipschitz.exp()).sum(-1)  # (draws, E)
            nodes = torch.zeros(len(part), len(self.incoming), dtype=torch.float64)
            part.copy_(nodes.index_add_(1, node, edges).log().sum(-1))
        return bounds


def coverage(drawn: Tensor, moments: tuple[Tensor, Tensor], *, exact_sigma: bool = True) -> float:
    """Return the share of the draws below the quantile of an approximation."""
    quantile = confidence_constraint(
        *moments, confidence=CONFIDENCE, log_target=0.0, exact_sigma=exact_sigma
    )
    return float((drawn <= quantile).double().mean())


def print_line(case: str, network: Network, drawn: Tensor, *, shared: bool) -> None:
    """Print one line of the table."""
    mu, variance = network.moments(form="corrected", shared=shared)
    line = f"{network.sigma:<4g}{case:<22}{drawn.mean():8.3f}{drawn.var():9.5f}"
    line += f"{mu - drawn.mean():+8.3f}{variance:9.5f}{variance / drawn.var() - 1:+6.0%}"
    shares = f"{coverage(drawn, (mu, variance)):9.3f}"
    if case == "edge":  # Eq. 12 does not apply to edges
        line, shares = line + f"{'-':>6}", shares + f"{'-':>7}"
    else:
        printed = network.moments(form="printed", shared=shared)
        line += f"{printed[1] / drawn.var() - 1:+6.0%}"
        shares += f"{coverage(drawn, printed):7.3f}"
    print(line + shares + f"{coverage(drawn, (mu, variance), exact_sigma=False):7.3f}")


def main() -> None:
    """Print the table."""
    start = time.perf_counter()
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    print(f"{'':26}{'drawn':>17}{'corrected':>23}{'Eq.12':>6}{'coverage with':>23}")
    print(
        f"{'sigma':<26}{'mu':>8}{'variance':>9}{'mu':>8}{'variance':>9}{'error':>6}{'error':>6}"
        f"{'correct':>9}{'Eq.12':>7}{'s^2':>7}"
    )
    for sigma in (0.1, 0.3, 0.5, 1.0):
        for case, cells, sizes in CASES:
            network = Network(cells, sizes, sigma, 0.0 if case == "edge" else sigma)
            drawn = network.draw(shared=False)
            print_line(case, network, drawn, shared=False)
            if cells is EIGHT_CELLS:
                drawn = network.draw(shared=True)
                print_line("  shared, no node_type", network, drawn, shared=False)
                print_line("  shared, node_type", network, drawn, shared=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
