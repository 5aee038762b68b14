"""What one trial does: a stage of a search, a whole search, a training, an attack."""

from __future__ import annotations

from nni_robust.job.base import Conditions, Job
from nni_robust.job.measure import Screening
from nni_robust.job.network_attack import NetworkAttack
from nni_robust.job.network_training import NetworkTraining
from nni_robust.job.one_shot import OneShotSearch
from nni_robust.job.staged import StagedSearch

__all__ = [
    "Conditions",
    "Job",
    "NetworkAttack",
    "NetworkTraining",
    "OneShotSearch",
    "Screening",
    "StagedSearch",
]
