"""The tables of the papers: their columns, their rows, and the numbers that we know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A published table, or a published figure as a table.

    Attributes
    ----------
    title
        Paper, number of the table, and subject.
    columns
        Maps metrics of our records to headings.
    rows
        Maps the name of each row to its printed numbers by metric: ``num_parameters`` in
        millions, all others in percent. A missing number is not known here.
    shares
        Other tables whose trainings also give rows of this one.
    """

    title: str
    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, str]]
    shares: tuple[str, ...] = ()


_SIZE = {"num_parameters": "size (M)", "clean": "clean"}
_FGSM = {"fgsm": "FGSM"}
_MIM = {"mim20": "MIM"}
_PGD20, _PGD100 = {"pgd20": "PGD-20"}, {"pgd100": "PGD-100"}
_DATASETS = ("SVHN", "CIFAR-100", "Tiny-ImageNet")
_SOURCES = ("ResNet-18", "ResNet-50", "WRN-28-10", "DenseNet-121", "RobNet-large", "RobNet-free")
_CELLS = ("AmoebaNet", "NASNet", "DARTS", "PC-DARTS", "RACL")
_COMPARED = ("RobNet-large", "RobNet-free", "RACL", "DenseNet-121", "ResNet-18")
_CELL_SIZES = {"AmoebaNet": "3.2", "NASNet": "3.8", "DARTS": "3.3", "PC-DARTS": "3.6"}

_ROBNETS = {
    "ResNet-18": {"num_parameters": "11.17", "clean": "78.38", "pgd20": "45.60"},
    "ResNet-50": {"num_parameters": "23.52"},
    "WRN-28-10": {"num_parameters": "36.48", "pgd100": "46.90"},
    "DenseNet-121": {
        "num_parameters": "6.95",
        "clean": "82.72",
        "pgd20": "47.93",
        "pgd100": "47.46",
    },
    "RobNet-small": {"num_parameters": "4.41", "clean": "78.05", "pgd20": "48.32"},
    "RobNet-medium": {"num_parameters": "5.66", "clean": "78.33", "pgd20": "49.13"},
    "RobNet-large": {"num_parameters": "6.89", "clean": "78.57", "pgd20": "49.44"},
    "RobNet-large-v2": {"num_parameters": "33.42", "pgd100": "50.26"},
    "RobNet-free": {
        "num_parameters": "5.49",
        "clean": "82.79",
        "pgd20": "52.74",
        "pgd100": "52.57",
        "mim20": "52.95",
    },
}

TABLES: dict[str, PublishedTable] = {
    "r-tab1": PublishedTable(
        title="[RobNets] Table 1: CIFAR-10, white box, linf 8/255",
        columns={
            **_SIZE,
            **_FGSM,
            **_PGD20,
            **_PGD100,
            "deepfool50": "DeepFool",
            "mim20": "MI-FGSM",
        },
        rows=_ROBNETS,
    ),
    "r-tab2": PublishedTable(
        title="[RobNets] Table 2: CIFAR-10, black box, from an independent copy",
        columns={"transfer_fgsm": "FGSM", "transfer_pgd100": "PGD-100"},
        rows={name: {} for name in _SOURCES}
        | {"RobNet-free": {"transfer_fgsm": "65.06", "transfer_pgd100": "63.17"}},
    ),
    "r-tab3": PublishedTable(
        title="[RobNets] Table 3: other datasets, white box",
        columns=_SIZE | _PGD100,
        rows={
            f"{data}, {name}": {}
            for data in _DATASETS
            for name in ("ResNet-18", "ResNet-50", "RobNet-large", "RobNet-free")
        },
    ),
    "r-tab4": PublishedTable(
        title="[RobNets] Table 4: CIFAR-10, with feature denoising",
        columns=_SIZE | _PGD100,
        rows={
            "ResNet-18": {},
            "ResNet-18 + denoise": {},
            "RobNet-large": {"clean": "78.57"},
            "RobNet-large + denoise": {"clean": "84.03"},
        },
        shares=("r-tab1",),
    ),
    "r-tab6": PublishedTable(
        title="[RobNets] Table 6: ImageNet, free training, linf 4/255",
        columns={**_SIZE, "pgd10": "PGD-10", "pgd50": "PGD-50", "pgd100": "PGD-100"},
        rows={
            "ResNet-50": {"num_parameters": "23.52"},
            "ResNet-101": {"num_parameters": "42.52"},
            "ResNet-152": {"num_parameters": "58.16"},
            "RobNet-large": {"num_parameters": "12.76"},
        },
    ),
    "r-tab7": PublishedTable(
        title="[RobNets] Table 7: CIFAR-10, more networks",
        columns=_SIZE | _PGD100,
        rows={
            "VGG-16": {"num_parameters": "14.73"},
            "MobileNetV2": {"num_parameters": "2.30"},
            "ResNeXt-29": {"num_parameters": "9.13"},
            **{
                name: {
                    key: value for key, value in row.items() if key in ("num_parameters", "pgd100")
                }
                for name, row in _ROBNETS.items()
            },
        },
        shares=("r-tab1",),
    ),
    "r-tab8": PublishedTable(
        title="[RobNets] Table 8: CIFAR-10, black box; rows are source, target",
        columns={"transfer_pgd100": "PGD-100"},
        rows={f"{source}, {target}": {} for source in _SOURCES for target in _SOURCES}
        # The diagonal is Table 2.
        | {"RobNet-free, RobNet-free": {"transfer_pgd100": "63.17"}},
    ),
    "r-fig10": PublishedTable(
        title="[RobNets] Figure 10: CIFAR-10, iterations of PGD",
        columns={f"pgd{steps}": f"PGD-{steps}" for steps in (7, 20, 50, 100, 200, 500, 1000)},
        rows={
            name: {key: value for key, value in row.items() if key in ("pgd20", "pgd100")}
            for name, row in _ROBNETS.items()
        },
    ),
    "a-tab1": PublishedTable(
        title="[RACL] Table 1, left: CIFAR-10, adversarial training",
        columns=_SIZE | _FGSM | _MIM | _PGD20,
        rows={
            # Copied by the paper from [RobNets], which trains differently.
            **{
                name: {
                    key: value for key, value in _ROBNETS[name].items() if key in ("clean", "pgd20")
                }
                for name in ("ResNet-18", "DenseNet-121", "RobNet-small", "RobNet-medium")
            },
            **{name: {"num_parameters": size} for name, size in _CELL_SIZES.items()},
            "RACL": {"num_parameters": "3.6", "clean": "83.89", "pgd20": "49.34"},
        },
    ),
    "a-tab1-clean": PublishedTable(
        title="[RACL] Table 1, right: CIFAR-10, training on clean images",
        columns=_SIZE | _FGSM | _MIM | {"pgd10": "PGD-10"},
        rows={
            **{name: {"num_parameters": size} for name, size in _CELL_SIZES.items()},
            "RACL": {"num_parameters": "3.6"},
        },
    ),
    "a-tab2": PublishedTable(
        title="[RACL] Table 2: CIFAR-10, black box, from VGG-19",
        columns={
            "transfer_fgsm": "FGSM",
            "transfer_mim20": "MIM",
            "transfer_pgd10": "PGD-10",
        },
        rows={name: {} for name in _CELLS},
    ),
    "a-tab3": PublishedTable(
        title="[RACL] Table 3: CIFAR-10, black box; rows are source, target",
        columns={"transfer_pgd10": "PGD-10"},
        rows={
            f"{source}, {target}": {"transfer_pgd10": "53.29"}
            if {source, target} == {"RACL"}
            else {}
            for source in _CELLS
            for target in _CELLS
        },
    ),
    "a-tab4": PublishedTable(
        title="[RACL] Table 4: RACL on other datasets",
        columns={"clean": "clean", "pgd10": "PGD-10"},
        rows={"CIFAR-10": {"pgd10": "53.29"}, "CIFAR-100": {}, "MNIST": {}},
    ),
    "a-tab5": PublishedTable(
        title="[RACL] Table 5: CIFAR-10, ablation",
        columns={"clean": "clean", **_FGSM, **_MIM, "pgd10": "PGD-10"},
        rows={
            "without CL": {},
            "eta 0.9, rho 0.01": {"clean": "78.7"},
            "eta 0.9, rho 0.0001": {"pgd10": "45.5"},
            "eta 0.7, rho 0.001": {"pgd10": "51.2"},
            "eta 0.9, rho 0.001": {"pgd10": "53.29"},
        },
    ),
    "comparison": PublishedTable(
        title="Networks of similar size under one recipe",
        columns=_SIZE | _FGSM,
        rows={name: {} for name in _COMPARED},
    ),
    "comparison-attack": PublishedTable(
        title="The same under PGD-20, then AutoAttack: each attack on the images that are left",
        columns={
            "clean": "clean",
            **_PGD20,
            "apgd_ce": "APGD-CE",
            "apgd_t": "APGD-T",
            "fab_t": "FAB-T",
            "square": "AutoAttack",
        },
        rows={name: {} for name in _COMPARED},
    ),
    "a-fig3": PublishedTable(
        title="[RACL] Figure 3: CIFAR-10, strength of PGD and FGSM",
        columns={"fgsm": "FGSM", **{f"pgd{k}": f"PGD-{k}" for k in (10, 20, 40, 60, 80, 100)}},
        rows={
            **{f"{name}, 8/255": {} for name in _CELLS},
            # From the text about the figure; Table 1 has 49.34.
            "RACL, 8/255": {"pgd20": "49.43"},
            **{f"{name}, 0.0{k}": {} for name in _CELLS for k in range(1, 8)},
        },
    ),
}
"""The published tables by name."""
