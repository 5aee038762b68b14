"""RACL on its own space, on spaces of NNI's hub, and on a user's space."""

from __future__ import annotations

import logging
import math
from dataclasses import fields

import nni.nas.strategy  # noqa: F401  # before NNI's one-shot strategies
import pytest
import torch
from nni.nas.evaluator.pytorch import Classification
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import DARTS, NasBench201
from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice, ModelSpace, Repeat
from nni.nas.space import RawFormatModelSpace, model_context
from torch import nn
from torch.testing import assert_close

from nni_robust.attack import FGSM, ThreatModel
from nni_robust.data import Synthetic
from nni_robust.evaluator import AdversarialClassification
from nni_robust.job.callbacks import EpochCheckpoint
from nni_robust.oneshot import (
    BoundOptions,
    ConstraintOptions,
    CurrentWeights,
    LoopOptions,
    WeightOptions,
    log_bound,
)
from nni_robust.space import RACLSpace
from nni_robust.strategy import RACL
from nni_robust.training import Recipe

DATA = Synthetic(
    num_classes=4, image_shape=(3, 8, 8), num_examples=64, batch_size=16, validation_split=0.5
)
SETTINGS = {"warmup_epochs": 1, "refresh_every": 2, "learning_rate": 0.05, "rho": 1.0}
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "limit_val_batches": 0,
}


class Own(ModelSpace):
    """A user's space: free choices, a choice of inputs, and an operation that is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = LayerChoice({"conv": nn.Conv2d(3, 4, 3, padding=1), "odd": Odd()}, label="stem")
        self.skip = InputChoice(2, n_chosen=1, label="skip")
        self.layer = LayerChoice([nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 1, 1)], label="layer")
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        x = self.stem(x)
        x = self.skip([x, self.layer(x)])
        return self.head(x.mean((2, 3)))


class Odd(nn.Module):
    """An operation that is not a row of layers."""

    def forward(self, x):
        return x.roll(1, 2).cumsum(1).repeat(1, 2, 1, 1)[:, :4]


class Fixed(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)


class Deep(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.layer = LayerChoice([nn.Conv2d(3, 3, 1), nn.Identity()], label="layer")
        self.body = Repeat(lambda _: nn.Conv2d(3, 3, 1), (1, 3), label="depth")


def small(**arguments):
    torch.manual_seed(0)
    options = {"num_cells": 3, "width": 4, "partial_channels": 1, "num_classes": 4, **arguments}
    return RACLSpace(**options)


def evaluator(epochs=2, attack=None, callbacks=(), learning_rate=0.05):
    return AdversarialClassification(
        train_dataloaders=DATA.train_dataloader(),
        val_dataloaders=DATA.architecture_dataloader(),
        train_attack=attack,
        recipe=Recipe(schedule="cosine", learning_rate=learning_rate),
        max_epochs=epochs,
        callbacks=list(callbacks),
        **QUIET,
    )


def racl(**options):
    """Build the strategy from flat options, as settings files write them."""
    groups = {
        "constraint": ConstraintOptions,
        "bound": BoundOptions,
        "weights": WeightOptions,
        "loop": LoopOptions,
    }
    return RACL(
        **{
            name: group(**{f.name: options[f.name] for f in fields(group) if f.name in options})
            for name, group in groups.items()
        }
    )


def search(space, strategy, training=None):
    strategy.initialize(
        RawFormatModelSpace(space, training or evaluator()), SequentialExecutionEngine()
    ).execute()
    module = strategy.oneshot_module
    module.set_model(strategy.supernet)
    return module


def test_a_search_exports_a_network_of_its_space():
    space = small()
    module = search(space, racl(**SETTINGS))
    sample = module.export()
    space.validate(sample)
    assert "none" not in sample.values()
    assert space.genotypes(sample) == space.genotypes(space.sample(space.genotypes(sample)))
    with model_context(sample):
        network = RACLSpace(num_cells=3, width=8, partial_channels=1, affine=True)
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def test_partial_channels_are_searched():
    module = search(small(width=8, partial_channels=2), racl(**SETTINGS))
    assert module.report()["bound_variance"] > 0


def test_the_report_describes_the_state_of_the_search():
    module = search(small(), racl(**SETTINGS))
    report = module.report()
    quantile = 1.2815515655446004 * report["bound_variance"]
    assert report["constraint"] == pytest.approx(report["bound_mu"] + quantile, abs=1e-4)
    shares = {name: value for name, value in report.items() if name.startswith("share/")}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert shares["share/none"] == 0.0
    assert 0.0 < report["entropy"] <= 1.0
    assert 0.5 <= report["sureness"] <= 1.0


def test_the_bound_of_deterministic_weights_is_the_product_of_its_nodes():
    """Eq. 10 by plain loops over cells, nodes, edges and operations."""
    strategy = racl(confidence_learning=False, **SETTINGS)
    module = search(small(), strategy)
    module.bound.refresh()
    constants = module.bound.state_dict()["log_lipschitz"].exp()  # (edges, operations)
    weights = CurrentWeights(module.weights)  # the medians
    expected, number = 0.0, 0
    for cell in strategy.supernet.cells:
        for target in range(2, 6):
            node = cell.inputs[f"input_{target}"]
            beta = weights[str(node.label)]
            gain = 0.0
            for source in range(target):
                layer = cell.edges[f"edge_{source}_{target}"].operation
                alpha = weights[str(layer.label)]
                gain += float(beta[source]) * sum(
                    float(alpha[column] * constants[number, column])
                    for column in range(len(layer.names))
                )
                number += 1
            expected += math.log(gain)
    report = module.report()
    assert report["bound_mu"] == pytest.approx(expected, abs=1e-4)
    assert report["bound_variance"] == 0.0


def test_a_strong_constraint_lowers_the_bound():
    free = search(small(), racl(**SETTINGS, constrained=False), evaluator(epochs=4)).report()
    kept = search(
        small(), racl(**{**SETTINGS, "rho": 10.0}, lipschitz_target=1e-6), evaluator(epochs=4)
    ).report()
    assert kept["bound_mu"] < free["bound_mu"] - 1
    assert kept["dual"] > 0
    assert free["dual"] == 0


@pytest.mark.parametrize(("scale", "share"), [(1.0, 1.5), (1e9, 0.5)])
def test_a_relative_target_is_taken_from_the_start(scale, share):
    """By hand: half of a positive quantile, and half as much again of a negative one."""
    space = small(operations=["max_pool_3x3", "skip_connect"])
    options = {**SETTINGS, "learning_rate": 1e-12, "constants": {"max_pool_3x3": scale}}
    strategy = racl(**options, relative_target=0.5)
    module = search(space, strategy)
    report = module.report()
    start = report["bound_mu"] + 1.2815515655446004 * report["bound_variance"]
    assert (start > 0) == (scale > 1)
    # The skips of the reductions have weights, which train on after the start.
    assert module.log_target == pytest.approx(share * start, rel=0.2)


def test_the_report_measures_the_constraint_against_the_relative_target():
    module = search(small(), racl(**SETTINGS, relative_target=0.5))
    start = module.log_target
    assert start is not None
    assert module.report()["constraint"] == pytest.approx(
        module.report()["bound_mu"] + 1.2815516 * module.report()["bound_variance"] - start,
        abs=1e-4,
    )


def test_warm_up_does_not_change_the_architecture():
    strategy = racl(**{**SETTINGS, "warmup_epochs": 5})
    module = search(small(), strategy)
    start = racl(**SETTINGS)
    start.initialize(RawFormatModelSpace(small(), evaluator()), SequentialExecutionEngine())
    assert_close(module.weights.mu, start.oneshot_module.weights.mu)


def test_an_interrupted_search_has_the_same_result(tmp_path):
    whole = search(
        small(), racl(**SETTINGS), evaluator(4, callbacks=[EpochCheckpoint(tmp_path / "a")])
    )

    class Stop(EpochCheckpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            trainer.should_stop = trainer.current_epoch == 1

    search(small(), racl(**SETTINGS), evaluator(4, callbacks=[Stop(tmp_path / "b")]))
    strategy = racl(**SETTINGS)
    training = evaluator(4)
    training.fit_kwargs.update({"ckpt_path": str(tmp_path / "b"), "weights_only": True})
    again = search(small(), strategy, training)
    assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert again.report() == whole.report()
    assert again.export() == whole.export()


def test_an_adversarial_evaluator_makes_the_search_adversarial():
    attack = FGSM(threat_model=ThreatModel(epsilon=0.1))
    clean = search(small(), racl(**SETTINGS))
    attacked = search(small(), racl(**SETTINGS), evaluator(attack=attack))
    assert not torch.equal(clean.weights.mu, attacked.weights.mu)


@pytest.mark.parametrize(
    "options",
    [
        {"alternate": True},
        {"normalize": True},
        {"exact_sigma": True, "cell_correlation": "shared"},
        {"eq12": "printed", "dual": "literal"},
        {"lipschitz": "layers", "rank": "mean"},
        {"lipschitz": "reshaped", "rank": "lower"},
        {"fold_batch_norm": True, "pooling": "operator", "rank": "sampled"},
    ],
    ids=str,
)
def test_every_option_runs(options):
    module = search(small(), racl(**SETTINGS, **options))
    assert all(math.isfinite(value) for value in module.report().values())
    module.export()


@pytest.mark.parametrize(
    ("option", "figure"),
    [
        ({"eq12": "printed"}, "bound_variance"),
        ({"cell_correlation": "shared"}, "bound_variance"),
        ({"pooling": "operator"}, "bound_mu"),
        ({"fold_batch_norm": True}, "bound_mu"),
        ({"lipschitz": "layers"}, "bound_mu"),
        ({"lipschitz": "reshaped"}, "bound_mu"),
        ({"exact_sigma": True}, "constraint"),
        ({"confidence": 0.7}, "constraint"),
        ({"lipschitz_target": 2.0}, "constraint"),
        ({"constants": {"sep_conv_3x3": 50.0}}, "bound_mu"),
        ({"normalize": True}, "bound_mu"),
    ],
    ids=str,
)
def test_every_option_of_the_bound_reaches_it(option, figure):
    """At the same weights: no step moves them."""
    still = {**SETTINGS, "warmup_epochs": 9}
    plain = search(small(), racl(**still), evaluator(epochs=1)).report()
    other = search(small(), racl(**{**still, **option}), evaluator(epochs=1)).report()
    assert other[figure] != pytest.approx(plain[figure], rel=1e-3)


def test_an_operation_that_returns_zeros_has_no_share():
    module = search(small(), racl(**SETTINGS))
    probs = module.export_probs()["normal/edge_0_2"]
    assert probs["none"] == 0.0
    assert sum(probs.values()) == pytest.approx(1.0)


def test_a_cell_whose_choices_do_not_determine_its_nodes_is_refused():
    class Parallel(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Cell([nn.Identity(), nn.Dropout()], 1, 2, label="cell")

    with pytest.raises(ValueError, match="'cell' must be built of callables"):
        search(Parallel(), racl(**SETTINGS))


def test_a_constant_of_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match=r"constants must name.*'avg_pool_3x3'.*got 'sepconv'"):
        search(small(), racl(**SETTINGS, constants={"sepconv": 2.0}))


def test_nas_bench_201_of_the_hub_is_searched_node_by_node():
    torch.manual_seed(0)
    space = NasBench201(stem_out_channels=4, num_modules_per_stack=1, num_labels=4)
    module = search(space, racl(**SETTINGS))
    sample = module.export()
    assert len(sample) == 6
    assert "none" not in sample.values()
    nodes = module.bound.nodes
    assert [len(node.edges) for node in nodes] == [1, 2, 3] * 3  # three cells of three nodes
    assert module.bound.unknown == {}
    with model_context(sample):
        NasBench201(stem_out_channels=4, num_modules_per_stack=1, num_labels=4)


def test_darts_of_the_hub_is_searched():
    torch.manual_seed(0)
    space = DARTS(width=4, num_cells=3, dataset="cifar")
    module = search(space, racl(**SETTINGS))
    sample = module.export()
    assert module.bound.unknown == {}
    assert [len(node.edges) for node in module.bound.nodes] == [2, 3, 4, 5] * 3
    with model_context(sample):
        network = DARTS(width=4, num_cells=3, dataset="cifar")
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 10)
    for cell in ("normal", "reduce"):
        for node in range(2, 6):
            first, second = (sample[f"{cell}/input_{node}_{place}"] for place in range(2))
            assert first != second


def test_a_users_space_is_searched_and_its_unknown_operations_are_named(caplog):
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, logger="nni_robust"):
        module = search(Own(), racl(**SETTINGS))
    assert set(module.bound.unknown) == {"odd"}
    assert "'odd' is left out of the bound" in caplog.text
    assert set(module.export()) == {"stem", "skip", "layer"}


def test_a_given_constant_is_used():
    torch.manual_seed(0)
    module = search(Own(), racl(**SETTINGS, constants={"odd": 2.0}))
    assert module.bound.unknown == {}
    assert module.report()["share/odd"] > 0


def test_a_search_works_with_nnis_own_evaluator():
    training = Classification(
        max_epochs=2,
        train_dataloaders=DATA.train_dataloader(),
        val_dataloaders=DATA.architecture_dataloader(),
        num_classes=4,
        **QUIET,
    )
    search(small(), racl(**SETTINGS), training).export()


def test_the_bound_of_a_derived_network_is_the_sum_over_its_nodes():
    """By hand: identities have the constant 1, so a node of two of them has ln 2."""
    space = small(operations=["skip_connect", "sep_conv_3x3"])
    sample = {
        label: leaf.default() if "input" in label else "skip_connect"
        for label, leaf in space.simplify().items()
    }
    network = space.freeze(sample)
    x = torch.rand(2, 3, 8, 8)
    normal = 4 * math.log(2)  # cell 0 is the only normal one, and consists of identities
    constants = log_bound(network, x)
    reductions = 0.0
    for cell in list(network.cells)[1:]:
        for _, layers in cell.lipschitz_nodes():
            gain = 0.0
            for layer in layers:
                if isinstance(layer, nn.Identity):
                    gain += 1.0
                else:  # two strided 1x1 convolutions on disjoint grids
                    norms = [
                        torch.linalg.matrix_norm(c.weight[:, :, 0, 0], 2)
                        for c in (layer.even, layer.odd)
                    ]
                    gain += max(norms).item()
            reductions += math.log(gain)
    assert constants == pytest.approx(normal + reductions, abs=1e-3)
    assert log_bound(network, x, BoundOptions(fold_batch_norm=True)) is not None
    assert log_bound(nn.Flatten(), x) is None


def test_a_space_without_choices_is_refused():
    with pytest.raises(ValueError, match=r"space must have choices to weight.*Fixed has none"):
        search(Fixed(), racl(**SETTINGS))


def test_a_choice_of_depth_is_refused():
    with pytest.raises(TypeError, match="dangling mutables and is not supported"):
        search(Deep(), racl(**SETTINGS))


def test_a_space_whose_operations_cannot_be_measured_is_refused():
    class Unmeasured(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.layer = LayerChoice({"a": Odd(), "b": Odd()}, label="layer")
            self.head = nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.layer(x).mean((2, 3)))

    with pytest.raises(ValueError, match="must have an operation whose Lipschitz constant can be"):
        search(Unmeasured(), racl(**SETTINGS))
    assert search(Unmeasured(), racl(**SETTINGS, constrained=False)).report()["bound_mu"] == 0.0


def test_a_loss_that_is_nan_ends_the_search():
    with pytest.raises(FloatingPointError, match="loss became nan"):
        search(small(), racl(**SETTINGS, max_norm=None), evaluator(epochs=6, learning_rate=1e12))


def test_an_input_is_ranked_with_the_best_operation_on_its_edge():
    """An operation with a high weight makes up for the lower weight of its input."""
    module = search(small(), racl(**SETTINGS), evaluator(epochs=1))
    rows = module.weights.rows
    with torch.no_grad():
        module.weights.mu.zero_()
        module.weights.mu[rows["normal/input_3"], :3] = torch.tensor([0.3, 0.2, 0.1])
        module.weights.mu[rows["normal/edge_2_3"], 3] = 1.0
    assert module.export()["normal/input_3"] == [0, 2]


def test_a_bound_needs_a_network_that_has_run():
    strategy = racl(**SETTINGS)
    strategy.initialize(RawFormatModelSpace(small(), evaluator()), SequentialExecutionEngine())
    with pytest.raises(RuntimeError, match="must run once"):
        _ = strategy.oneshot_module.bound


def test_a_seed_that_numpy_does_not_accept_is_refused():
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 to 2\^32 - 1"):
        RACL(seed=2**40)
