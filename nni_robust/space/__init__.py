"""Model spaces: sets of networks that a strategy can search."""

from __future__ import annotations

from nni.nas.nn.pytorch import ModelSpace

from nni_robust.space.constraint import Bounds
from nni_robust.space.edge import Edge
from nni_robust.space.multi_op import MultiOp, MultiOpEdge, subset_name
from nni_robust.space.network import CellNetwork
from nni_robust.space.published import PUBLISHED, Published, published_names
from nni_robust.space.racl import RACLSpace
from nni_robust.space.robnet import RobNetSpace
from nni_robust.space.sampling import Sampler, sampler_of
from nni_robust.space.stage import (
    STAGE,
    STAGES,
    SUBNETWORKS,
    Stage,
    reported,
    robust_accuracy,
)

__all__ = [
    "PUBLISHED",
    "SPACES",
    "STAGE",
    "STAGES",
    "SUBNETWORKS",
    "Bounds",
    "CellNetwork",
    "Edge",
    "MultiOp",
    "MultiOpEdge",
    "Published",
    "RACLSpace",
    "RobNetSpace",
    "Sampler",
    "Stage",
    "published_names",
    "reported",
    "robust_accuracy",
    "sampler_of",
    "subset_name",
]

SPACES: dict[str, type[ModelSpace]] = {"robnet": RobNetSpace, "racl": RACLSpace}
