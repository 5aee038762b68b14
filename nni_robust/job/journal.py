"""What a search has evaluated: noted as records, and looked up before anything is done again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from nni_robust.job.measure import Metrics
from nni_robust.record import Record, read_records
from nni_robust.results.files import SearchFiles, network_sample
from nni_robust.settings.grammar import describe, describe_call, flatten
from nni_robust.space import RACLSpace, RobNetSpace
from nni_robust.space.robnet_genotype import genotype_metrics


class Journal:
    """The records of one search, in its folder.

    Parameters
    ----------
    files
        The folder. It is claimed: one that holds another search is refused.
    space, evaluator
        Objects that NNI traces; their arguments are the settings of every record.
    seed
        Seed of every record.
    kind
        Name of the evaluator.
    strategy
        Settings of the strategy, where the search is one evaluation.
    """

    def __init__(
        self,
        files: SearchFiles,
        space: ModelSpace,
        evaluator: Any,
        seed: int,
        *,
        kind: str,
        strategy: Mapping[str, Any] | None = None,
    ) -> None:
        self._files = files
        self._space = space
        self._seed = seed
        self._settings = {
            "space": describe(space),
            "evaluator": {"name": kind, **describe_call(evaluator)},
        }
        if strategy is not None:
            self._settings["strategy"] = dict(strategy)
        self._started = time.monotonic()
        files.claim(flatten(self._settings))

    def known(self, stage: str, sample: Mapping[str, Any]) -> Metrics | None:
        """Give the metrics of a network that was evaluated before, if its files are there."""
        made = {
            "candidate": self._files.candidate(sample),
            "final": self._files.final(sample) / "genotype.json",
        }
        if stage in made and not made[stage].is_file():
            return None
        if not self._files.records.is_file():
            return None
        network = network_sample(sample)
        for record in read_records(self._files.records):
            if (record.stage, record.sample, record.error) == (stage, network, None):
                return record.metrics
        return None

    def start(self) -> None:
        """Take the time of the evaluation that begins."""
        self._started = time.monotonic()

    def note(
        self,
        stage: str,
        sample: Mapping[str, Any],
        metrics: Metrics,
        *,
        details: Mapping[str, Any] | None = None,
        error: str | None = None,
        space: ModelSpace | None = None,
    ) -> Record:
        """Append the record of an evaluation.

        Parameters
        ----------
        stage, sample
            What was evaluated.
        metrics
            What came of it.
        details
            What else there is to say of it, such as lists with one value a cell.
        error
            Why it failed, or None.
        space
            The space of the network, where it is not that of the search.
        """
        settings = self._settings
        if space is not None:
            settings = {**settings, "space": describe(space)}
        record = Record(
            sample=network_sample(sample),
            genotype=self._genotypes(sample),
            stage=stage,
            metrics=metrics,
            settings=settings,
            seed=self._seed,
            error=error,
            details={"seconds": round(time.monotonic() - self._started, 1), **(details or {})},
        )
        record.append(self._files.records)
        return record

    def size(self, sample: Mapping[str, Any], network: nn.Module) -> Metrics:
        """Parameters of a network in millions and, for a RobNet, the measures of its cells."""
        size = {"params_m": sum(p.numel() for p in network.parameters()) / 1e6}
        genotypes = self._genotypes(sample)
        if genotypes is None or not isinstance(self._space, RobNetSpace):
            return size
        return {**size, **genotype_metrics(genotypes)}

    def _genotypes(self, sample: Mapping[str, Any]) -> list[str] | None:
        known = isinstance(self._space, (RobNetSpace, RACLSpace))
        return self._space.genotypes(sample) if known and sample else None
