"""How samples look on NNI's web page: one short word per axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from nni.mutable import Categorical, CategoricalMultiple, LabeledMutable, Mutable
from nni.mutable.annotation import MutableAnnotation

from nni_robust.space import STAGE, STAGES, SUBNETWORKS, subset_name

MAX_AXES = 24
"""NNI's parallel-coordinates page cannot show more axes than these legibly."""

OPS = "ops"
"""Axis of the number of operations that are present."""

ANY = "any"
"""Value on every axis for a trial that handles many networks at once."""

_SHORT = {"identity": "id"}
"""Short forms of words that would overlap with those of the next axis."""

_ONE_NETWORK = ("candidate", "final")


class PageAxes:
    """Translate the samples of a space into values on the axes of NNI's page.

    Every choice is a word on its own axis: an edge is ``none``, ``conv``, ``id`` or ``conv+id``.
    If there are more than :data:`MAX_AXES` choices, those of one scope become one axis, the share
    of their operations that are present. A scope that all labels share is left out of the names.
    The first axis is the number of operations that are present, because NNI's page cuts off the
    words of its first axis, but not numbers.

    Parameters
    ----------
    space
        The space, including the evaluator's stage if it has one.
    """

    def __init__(self, space: Mutable) -> None:
        leaves = space.simplify()
        self._staged = STAGE in leaves
        self._choices: dict[str, LabeledMutable] = {
            str(label): leaf
            for label, leaf in leaves.items()
            if label != STAGE and not isinstance(leaf, MutableAnnotation)
        }
        self._subsets = {
            label: leaf
            for label, leaf in self._choices.items()
            if isinstance(leaf, CategoricalMultiple)
        }
        self._grouped = len(self._choices) > MAX_AXES and all(
            label in self._subsets and "/" in label for label in self._choices
        )
        scopes = {label.split("/")[0] for label in self._choices if "/" in label}
        self._common = f"{scopes.pop()}/" if len(scopes) == 1 else ""

    def search_space(self) -> dict[str, Any]:
        """Return the axes in the format of NNI's search-space files."""
        axes: dict[str, Any] = {}
        if self._subsets and not self._grouped:
            axes[OPS] = {"_type": "uniform", "_value": [0, self._count(None)]}
        if self._staged:
            axes[STAGE] = {"_type": "choice", "_value": list(STAGES)}
        if self._grouped:
            axes.update({scope: {"_type": "uniform", "_value": [0, 1]} for scope in self._groups()})
            return axes
        for label, leaf in self._choices.items():
            axes[self._axis(label)] = self._axis_of(leaf)
        return axes

    def parameters(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Return one sample as the parameters of a trial: a value for each axis."""
        shown: dict[str, Any] = {}
        if self._subsets and not self._grouped:
            shown[OPS] = self._mean_count(sample)
        if self._staged:
            shown[STAGE] = sample[STAGE]
        one = not self._staged or sample[STAGE] in _ONE_NETWORK
        if self._grouped:
            for scope, labels in self._groups().items():
                shown[scope] = self._share(sample, labels) if one else 0
            return shown
        for label in self._choices:
            shown[self._axis(label)] = _word(sample[label]) if one else ANY
        return shown

    def _mean_count(self, sample: Mapping[str, Any]) -> float:
        """Return the number of operations of a network, or the mean over the trial's networks."""
        if self._staged and sample[STAGE] == "supernet":
            return self._count(None)
        networks = sample.get(SUBNETWORKS) or [sample]
        return round(sum(self._count(network) for network in networks) / len(networks), 1)

    def _count(self, sample: Mapping[str, Any] | None) -> int:
        """Return the number of operations that are present; without a sample, of the space."""
        return sum(
            len(leaf.values if sample is None else sample[label])
            for label, leaf in self._subsets.items()
        )

    def _axis(self, label: str) -> str:
        return label.removeprefix(self._common)

    def _axis_of(self, leaf: LabeledMutable) -> dict[str, Any]:
        if isinstance(leaf, CategoricalMultiple):
            words = [_word(value) for value in leaf.grid()]
        elif isinstance(leaf, Categorical):
            words = [_word(value) for value in leaf.values]
        else:
            return dict(leaf.as_legacy_dict())
        return {"_type": "choice", "_value": words + [ANY] * self._staged}

    def _groups(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for label in self._choices:
            groups[label.split("/")[0]].append(label)
        return groups

    def _share(self, sample: Mapping[str, Any], labels: list[str]) -> float:
        present = sum(len(sample[label]) for label in labels)
        return round(present / sum(len(self._choices[label].values) for label in labels), 3)


def _word(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return subset_name(_SHORT.get(str(item), str(item)) for item in value)
    return value
