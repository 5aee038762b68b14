"""Attack a trained network with images made on itself or on another network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from nni_robust.attack import Attack, Transfer
from nni_robust.check import SettingError, check_count, check_seed
from nni_robust.evaluator.robustness import measure_robustness
from nni_robust.evaluator.suite import check_suite
from nni_robust.job.base import Job, Metrics, choose_device
from nni_robust.job.journal import Journal
from nni_robust.results.chosen import chosen_data, load_chosen, read_chosen
from nni_robust.results.files import SearchFiles
from nni_robust.results.tags import tagged_records
from nni_robust.settings.description import describe, describe_arguments

_KEYS = ("table", "row", "seed")  # of a training


class NetworkAttack(Job):
    """Attack one trained network on its test images.

    Parameters
    ----------
    networks
        Folder with trainings, at any depth.
    target
        Tags ``table`` and ``row`` and the ``seed`` of the network that is attacked.
    source
        The same for the network that the images are made on; None makes them on the target.
    directory
        Folder of the results, of this attack alone. An interrupted attack continues from it.
    attacks
        The suite.
    batch_size
        Images per batch.
    limit
        Number of test images, None for all.
    seed
        Seed of the attacks, 0 to 2^32 - 1.
    keep_fooled
        True shows every attack all images, as in the papers' tables. False shows it only those
        that no earlier attack has fooled, as in AutoAttack.
    tags
        Tags of the settings file. Target and source are those of the same tag ``scale``.

    Raises
    ------
    SettingError
        If a value is out of range. Missing networks are found when the job runs.
    """

    def __init__(
        self,
        *,
        networks: str,
        target: Mapping[str, Any],
        source: Mapping[str, Any] | None = None,
        directory: str,
        attacks: Sequence[Attack],
        batch_size: int = 256,
        limit: int | None = None,
        seed: int = 0,
        keep_fooled: bool = True,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        check_seed(seed)
        super().__init__(seed=seed, stage="attack")
        check_suite("attacks", attacks)
        check_count("batch_size", batch_size)
        if limit is not None:
            check_count("limit", limit)
        self.networks = networks
        self.target = target
        self.source = source
        self.directory = directory
        self.wanted = {"target": target} if source is None else {"target": target, "source": source}
        check_wanted(self.wanted)
        self.files = SearchFiles(directory)
        self.attacks = list(attacks)
        self.batch_size = batch_size
        self.limit = limit
        self.keep_fooled = keep_fooled
        self.tags = dict(tags or {})

    def journal(self) -> Journal:
        """Find the networks and claim the folder of the results."""
        places, chosen = self._places, self._chosen
        evaluator = describe_arguments(self)
        for name in ("networks", "target", "source", "directory", "tags"):
            del evaluator[name]
        settings = {
            "network": chosen["settings"].get("network"),
            **{key: str(folder) for key, folder in places.items()},
            "evaluator": {
                "name": "attack",
                **evaluator,
                "data": describe(chosen_data(chosen)),
            },
        }
        self.sample = dict(chosen["sample"])
        return Journal(
            self.files,
            settings,
            seed=self.seed,
            tags=self.tags,
            genotypes=lambda sample: chosen["genotype"],
        )

    def work(self, journal: Journal) -> Metrics:
        """Attack, unless it was done before.

        Returns
        -------
        dict
            ``default``, the accuracy under the worst attack per image; ``clean``; and one key per
            attack, such as ``pgd100``, or ``transfer_pgd100`` with a source.
        """
        places, chosen = self._places, self._chosen
        known = journal.known(self.stage, chosen["sample"])
        if known is not None:
            return known
        x, y = chosen_data(chosen).stored_examples("test", self.limit)
        device = choose_device("auto")
        attacks: Sequence[Attack] = self.attacks
        if "source" in places:
            source = load_chosen(places["source"]).to(device)
            attacks = [Transfer(source=source, attack=attack) for attack in attacks]
        accuracies = measure_robustness(
            load_chosen(places["target"]).to(device),
            x,
            y,
            attacks=attacks,
            batch_size=self.batch_size,
            seed=self.seed,
            keep_fooled=self.keep_fooled,
            state=self.files.directory / "state",
        ).accuracies()
        metrics = {"default": accuracies.pop("robust"), **accuracies}
        journal.note(self.stage, chosen["sample"], metrics, details={"num_images": len(x)})
        return metrics

    @cached_property
    def _places(self) -> dict[str, Path]:
        """The folders of target and source; finding them reads every record below ``networks``."""
        scale = self.tags.get("scale")
        return {
            key: find_trained(Path(self.networks), {"seed": self.seed, **wanted}, key, scale)
            for key, wanted in self.wanted.items()
        }

    @cached_property
    def _chosen(self) -> dict[str, Any]:
        return read_chosen(self._places["target"])


def check_wanted(sections: Mapping[str, Any]) -> None:
    """Raise a SettingError unless ``target`` and ``source`` name trainings."""
    for key in ("target", "source"):
        wanted = sections.get(key, dict.fromkeys(_KEYS))
        if not isinstance(wanted, Mapping) or {*wanted, "seed"} != {*_KEYS}:
            raise SettingError(f"must be a mapping with the keys {_KEYS}, got {wanted!r}.", key)


def find_trained(networks: Path, wanted: Mapping[str, Any], key: str, scale: str | None) -> Path:
    """Find the one finished training with some tags.

    Parameters
    ----------
    networks
        Folder with trainings, at any depth.
    wanted
        ``table``, ``row`` and ``seed``.
    key
        The key of *wanted*, for messages.
    scale
        Tag ``scale`` of the training, None at full scale.

    Returns
    -------
    Path
        Folder for :func:`~nni_robust.results.chosen.load_chosen`.

    Raises
    ------
    SettingError
        If there is none, or more than one.
    """
    asked = (wanted["table"], wanted["row"], wanted["seed"], scale)
    folders = {
        folder: None
        for folder, record in tagged_records(networks)
        if record.stage == "final"
        and asked
        == (record.tags["table"], record.tags["row"], record.seed, record.tags.get("scale"))
    }
    found = [final for folder in folders for final in SearchFiles(folder).finals()]
    name = f"row {wanted['row']!r} of table {wanted['table']!r}, seed {wanted['seed']}" + (
        f", scale {scale!r}" if scale else ""
    )
    if not found:
        raise SettingError(
            f"must be a finished training below {str(networks)!r}, but there is none of {name}. "
            f"Train it first: the experiment of table {wanted['table']!r}.",
            key,
        )
    if len(found) > 1:
        raise SettingError(
            f"must be one training, but there are {len(found)} of {name}: "
            f"{[str(folder) for folder in found]}. Move all but one away.",
            key,
        )
    return found[0]
