"""Search for neural architectures that resist adversarial attacks, as a plugin of NNI 3.0.

Public names load on first use: importing the package loads neither torch nor NNI.

The folders, from the top down; each imports only from those below it::

    command     what each command of the command line does
    manager     experiments under NNI's manager: the strategy host, trials, following
    job         what one trial does: a stage of a search, a whole search, a training, an attack
    results     the files of a search
    settings    settings files: from YAML to objects
    report      records to tables, statistics, figures, drawings
    strategy    which network comes next: RobNet, RACL
    oneshot     supernets and their search loops; the Lipschitz bound of a network
    audit       checks for masked gradients
    evaluator   what a network is worth: adversarial training, robust accuracy, FSP distance
    training    how weights are trained: objectives, recipes, weight averaging
    space, op   model spaces and candidate operations
    attack, model, data     adversaries, reference networks, data modules
    functional  the papers' formulas, on tensors
    record, check, atomic   one evaluated network; argument checks; files written whole
    network_state           modes, statistics and memory layout of networks
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "attack": [
        *("Attack", "ThreatModel", "FGSM", "PGD", "MIM", "DeepFool", "Noise", "Transfer"),
        *("APGD_CE", "APGD_T", "FAB_T", "Square"),
    ],
    "audit": ["audit_robustness"],
    "data": [
        *("RobustDataModule", "Digits", "MNIST", "SVHN", "CIFAR10", "CIFAR100"),
        *("TinyImageNet", "ImageNet", "ImageFolder", "Synthetic"),
    ],
    "evaluator": [
        *("AdversarialClassification", "RobustAccuracy", "FSPDistance", "FSPFilter"),
        *("attacked_accuracy", "measure_robustness", "cell_fsp_distances"),
    ],
    "functional": ["fsp_distance", "fsp_matrix", "log_normal_sum"],
    "job": [
        *("Conditions", "Screening", "Job"),
        *("StagedSearch", "OneShotSearch", "NetworkTraining", "NetworkAttack"),
    ],
    "manager.host": ["StrategyHost"],
    "oneshot": [
        *("LipschitzBound", "log_bound"),
        *("BoundOptions", "ConstraintOptions", "LoopOptions", "WeightOptions"),
    ],
    "record": ["Record", "read_records"],
    "space": ["RobNetSpace", "RACLSpace"],
    "strategy": ["RobNet", "RACL"],
    "training": ["Recipe"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # all are strings


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]
