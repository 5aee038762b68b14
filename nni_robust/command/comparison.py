"""The accuracies of a chosen network, measured again, beside those on record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nni_robust.command.evaluation import progress_bar
from nni_robust.command.networks import accuracy_title
from nni_robust.command.summary import heading
from nni_robust.command.table import percent, table
from nni_robust.command.target import Target
from nni_robust.evaluator import attacked_accuracy
from nni_robust.job.build import conditions_of
from nni_robust.results.chosen import read_chosen


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Test accuracies of one network.

    Attributes
    ----------
    heading
        What the network is.
    num_images
        Test images.
    measured, recorded
        Accuracies by metric, ``default`` under the worst attack for each image.
    """

    heading: str
    num_images: int
    measured: dict[str, float]
    recorded: dict[str, float]

    @property
    def largest_difference(self) -> float:
        """Largest difference between an accuracy and the one on record."""
        return max(abs(self.measured[name] - self.recorded[name]) for name in self.measured)

    def text(self) -> str:
        """Return both as a table."""
        heads = ["accuracy", f"{self.num_images} test images", "on record"]
        rows = [
            [accuracy_title(name), percent(value), percent(self.recorded[name])]
            for name, value in self.measured.items()
        ]
        return f"{self.heading}\n\n{table(heads, rows)}\n"


def compare(target: Target) -> Comparison:
    """Attack a chosen network on the test images, under the conditions on record.

    Parameters
    ----------
    target
        From a folder of results.
    """
    chosen = read_chosen(Path(target.origin["folder"]))
    conditions = conditions_of(chosen)
    x, y = conditions.data.stored_examples("test")
    with progress_bar(len(x), conditions.test_attacks) as bar:
        accuracies = attacked_accuracy(
            target.network.to(conditions.torch_device),
            x,
            y,
            attacks=conditions.test_attacks,
            batch_size=conditions.batch_size,
            seed=conditions.seed,
            progress=bar.update,
        )
    worst = accuracies.pop("robust")
    measured = {**accuracies, "default": worst}
    size = chosen["metrics"]["num_parameters"]
    return Comparison(
        heading=heading(target.label, size, target.genotype or []),
        num_images=len(x),
        measured=measured,
        recorded={name: chosen["metrics"][name] for name in measured},
    )
