"""The journal of a job: every evaluation as a record, looked up before it is repeated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nni.nas.nn.pytorch import ModelSpace

from nni_robust.record import Record, read_records
from nni_robust.results.files import SearchFiles
from nni_robust.settings.description import flatten
from nni_robust.space.network import CellNetwork

Genotypes = Callable[[Mapping[str, Any]], Sequence[str] | None]
"""Maps a sample to its genotype, None where the space has no genotypes."""


class Journal:
    """The records of one job, in the folder of its results.

    Parameters
    ----------
    files
        The folder. It is claimed: a folder that holds the results of another job is refused.
    settings
        Settings of the job as plain values, stored in every record.
    seed
        Seed of the job.
    tags
        Tags of the settings file.
    genotypes
        Maps a sample to its genotype.

    Raises
    ------
    SettingError
        If the folder holds the results of another job, or a file in it is damaged.
    """

    def __init__(
        self,
        files: SearchFiles,
        settings: Mapping[str, Any],
        *,
        seed: int,
        tags: Mapping[str, Any],
        genotypes: Genotypes,
    ) -> None:
        self.files = files
        self._settings = dict(settings)
        self._seed = seed
        self._tags = dict(tags)
        self._genotypes = genotypes
        self._started = time.monotonic()
        files.claim(flatten(self._settings))
        past = read_records(files.records) if files.records.is_file() else []
        self._known: dict[tuple[str, str], dict[str, float]] = {}
        for record in past:
            self._remember(record)

    def known(self, stage: str, sample: Mapping[str, Any]) -> dict[str, float] | None:
        """Return the metrics of a finished evaluation, None if there is none.

        A candidate or a final network counts as finished only if its files exist.
        """
        made = {
            "candidate": self.files.candidate(sample),
            "final": self.files.final(sample) / "genotype.json",
        }
        if stage in made and not made[stage].is_file():
            return None
        return self._known.get(_key(stage, sample))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the seconds of the records that the block notes from its beginning."""
        before, self._started = self._started, time.monotonic()
        try:
            yield
        finally:
            self._started = before

    def note(
        self,
        stage: str,
        sample: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        error: str | None = None,
        **settings: Any,
    ) -> Record:
        """Append the record of an evaluation.

        Parameters
        ----------
        stage, sample
            What was evaluated.
        metrics
            What was measured.
        details
            What does not fit into a number, such as lists with one value per cell.
        error
            Why the evaluation failed, or None.
        **settings
            Settings that differ from those of the job, such as the space of a derived network.
        """
        seconds = round(time.monotonic() - self._started, 1)
        genotypes = self._genotypes(sample)
        record = Record(
            sample=dict(sample),
            genotype=None if genotypes is None else list(genotypes),
            stage=stage,
            metrics=dict(metrics or {}),
            settings={**self._settings, **settings},
            seed=self._seed,
            tags=self._tags,
            error=error,
            details={"seconds": seconds, **(details or {})},
        )
        record.append(self.files.records)
        self._remember(record)
        return record

    def _remember(self, record: Record) -> None:
        if record.error is None:
            self._known.setdefault(_key(record.stage, record.sample), record.metrics)


def genotypes_of(space: ModelSpace) -> Genotypes:
    """Return the function from a sample of a space to its genotype."""
    if isinstance(space, CellNetwork):
        return lambda sample: space.genotypes(sample) if sample else None
    return lambda sample: None


def _key(stage: str, sample: Mapping[str, Any]) -> tuple[str, str]:
    return stage, json.dumps(sample, sort_keys=True)
