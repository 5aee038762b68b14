"""Model spaces: sets of networks that a strategy can search."""

from __future__ import annotations

from nni.nas.nn.pytorch import ModelSpace

from nni_robust.space.constraint import Bounds
from nni_robust.space.edge import MultiOp, MultiOpEdge, subset_name
from nni_robust.space.published import PUBLISHED, PUBLISHED_DARTS
from nni_robust.space.racl import RACLSpace
from nni_robust.space.robnet import RobNetSpace
from nni_robust.space.sampling import Sampler, sampler_of
from nni_robust.space.stage import (
    NETWORKS,
    STAGE,
    STAGES,
    Stage,
    reported,
    robust_accuracy,
)

__all__ = [
    "NETWORKS",
    "PUBLISHED",
    "PUBLISHED_DARTS",
    "SPACES",
    "STAGE",
    "STAGES",
    "Bounds",
    "MultiOp",
    "MultiOpEdge",
    "RACLSpace",
    "RobNetSpace",
    "Sampler",
    "Stage",
    "reported",
    "robust_accuracy",
    "sampler_of",
    "subset_name",
]

SPACES: dict[str, type[ModelSpace]] = {"robnet": RobNetSpace, "racl": RACLSpace}
