"""A job, the work of one trial, and the conditions that every job shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from nni_robust.attack import FGSM, PGD, Attack
from nni_robust.check import Options, check_count, check_seed
from nni_robust.data import RobustDataModule
from nni_robust.evaluator import attacked_accuracy
from nni_robust.evaluator.report_to_nni import report_final
from nni_robust.evaluator.suite import check_suite
from nni_robust.job.journal import Journal
from nni_robust.results.files import SearchFiles
from nni_robust.space import reported

Metrics = dict[str, float]

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Conditions(Options):
    """What every job needs: images, where results go, how networks are attacked.

    Parameters
    ----------
    data
        Images. Networks are selected on validation images; test images are used once, at the end.
    directory
        Folder of the results; see :class:`~nni_robust.results.files.SearchFiles`.
    test_attacks
        Suite of reported accuracies. An image counts as robust if no attack of it succeeds.
    attack_mode
        Mode of batch norm during attacks in training; see
        :class:`~nni_robust.evaluator.AdversarialClassification`.
    batch_size
        Images per batch when attacking outside training.
    seed
        Seed of weights, samples and attacks, 0 to 2^32 - 1.
    device
        ``auto`` uses the accelerator if there is one.
    tags
        Free mapping, stored in every record.

    Raises
    ------
    SettingError
        If a value is out of range, or the suite has no attacks or attacks of the same name.
    """

    data: RobustDataModule
    directory: str
    test_attacks: Sequence[Attack] = (FGSM(), PGD())
    attack_mode: Literal["train", "eval"] = "train"
    batch_size: int = 256
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    tags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_suite("test_attacks", self.test_attacks)
        check_count("batch_size", self.batch_size)
        check_seed(self.seed)

    @property
    def files(self) -> SearchFiles:
        """Paths of the results."""
        return SearchFiles(self.directory)

    @property
    def torch_device(self) -> torch.device:
        """The device that networks run on."""
        return choose_device(self.device)

    def accuracies(
        self,
        network: nn.Module,
        split: Split,
        attacks: Sequence[Attack] | None = None,
        limit: int | None = None,
    ) -> Metrics:
        """Attack a network on stored images.

        Parameters
        ----------
        network
            Moved to the device.
        split, limit
            The images: all of the split, or the first ``limit``.
        attacks
            The suite, ``test_attacks`` if None.

        Returns
        -------
        dict
            ``default``, the accuracy under the worst attack per image; ``clean``; and one key per
            attack.
        """
        x, y = self.data.stored_examples(split, limit)
        accuracies = attacked_accuracy(
            network.to(self.torch_device),
            x,
            y,
            attacks=self.test_attacks if attacks is None else attacks,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        return {"default": accuracies.pop("robust"), **accuracies}

    def num_images(self, split: Split) -> int:
        """Return the number of images of a split."""
        return len(self.data.stored_examples(split)[1])


class Job(ABC):
    """The work of one trial: one call of :meth:`run`.

    A subclass writes :meth:`journal` and :meth:`work`. What a stopped run of the same job has
    finished is not repeated.

    Parameters
    ----------
    seed
        Seed of torch's global random state during the work.
    stage, sample
        Stage and sample of the record that a failure leaves.
    """

    def __init__(self, *, seed: int, stage: str, sample: Mapping[str, Any] | None = None) -> None:
        self.seed = seed
        self.stage = stage
        self.sample = dict(sample or {})

    @property
    def data(self) -> RobustDataModule | None:
        """The images, None if only the run can tell them."""
        return None

    @abstractmethod
    def journal(self) -> Journal:
        """Claim the folder of the results and return its journal."""

    @abstractmethod
    def work(self, journal: Journal) -> Metrics:
        """Do what is left of the work, record it and return its metrics."""

    def run(self) -> Metrics:
        """Do the job, or what is left of it, and report its metrics to NNI.

        Returns
        -------
        dict
            The metrics, ``default`` among them. A failure is recorded and raised again.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            journal = self.journal()
            try:
                metrics = self.work(journal)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                journal.note(self.stage, self.sample, error=reason)
                raise
        report_final(reported(self.stage, metrics))
        return metrics


def choose_device(device: Literal["auto", "cpu"]) -> torch.device:
    """Return the accelerator if there is one and ``device`` is ``auto``, else the CPU."""
    return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
