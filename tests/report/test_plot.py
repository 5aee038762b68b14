"""Plots of records written by hand: the points and titles, and which records are refused."""

from __future__ import annotations

import pytest

from nni_robust.record import Record
from nni_robust.report.plot import (
    PLOTS,
    draw_convolutions,
    draw_density,
    draw_fsp,
    draw_search,
    draw_size,
    save_plot,
)


def record(stage, details=None, settings=None, **metrics):
    return Record(
        sample={},
        stage=stage,
        metrics=metrics,
        seed=0,
        details=details or {},
        settings=settings or {},
    )


SCREENED = [
    record(
        "screen",
        {"fsp_unit": [0.1 * k, 0.3 - 0.1 * k]},
        default=0.4 - 0.1 * k,
        clean=0.5,
        density=0.2 * k,
        direct=0.25 * k,
        num_convolutions=3.0 * k,
    )
    for k in range(3)
]
CANDIDATES = [
    record("candidate", default=0.5, inherited=0.3, density=0.5, direct=0.5, num_convolutions=6.0),
    record("candidate", default=0.7, inherited=0.4, density=0.7, direct=1.0, num_convolutions=9.0),
]
TRAINED = [
    record(
        "final", settings={"network": {"name": "resnet18"}}, num_parameters=11_200_000, pgd100=0.45
    ),
    record("final", settings={"network": {"name": "racl"}}, num_parameters=36e5, pgd100=0.49),
]


def points(collection):
    return [tuple(round(float(value), 9) for value in point) for point in collection.get_offsets()]


def test_accuracy_is_plotted_in_percent_against_density_with_one_colour_per_stage():
    (axes,) = draw_density([*SCREENED, *CANDIDATES, *TRAINED]).axes
    inherited, tuned = axes.collections
    assert points(inherited) == [(0.0, 40.0), (0.2, 30.0), (0.4, 20.0)]
    assert points(tuned) == [(0.5, 50.0), (0.7, 70.0)]
    # The points of each stage are on a line: one falls, the other rises.
    assert axes.get_title() == "3 inherited weights, r = -1.00\n2 fine-tuned, r = 1.00"


def test_convolutions_are_plotted_by_number_and_by_share_of_direct_edges():
    left, right = draw_convolutions(CANDIDATES).axes
    assert points(left.collections[0]) == [(6.0, 50.0), (9.0, 70.0)]
    assert points(right.collections[0]) == [(0.5, 50.0), (1.0, 70.0)]


def test_every_cell_has_a_panel_with_its_distances_and_the_loss_of_accuracy():
    first, second = draw_fsp([*SCREENED, *CANDIDATES]).axes
    assert points(first.collections[0]) == [(0.0, 10.0), (0.1, 20.0), (0.2, 30.0)]
    assert points(second.collections[0]) == [(0.3, 10.0), (0.2, 20.0), (0.1, 30.0)]
    assert (first.get_title(), second.get_title()) == ("cell 0, r = 1.00", "cell 1, r = -1.00")


def test_candidates_are_plotted_before_and_after_fine_tuning():
    left, right = draw_search([*SCREENED, *CANDIDATES]).axes
    assert points(left.collections[0]) == [(30.0, 50.0), (40.0, 70.0)]
    assert right.get_title() == "mean 60.00 %"
    assert sum(patch.get_height() for patch in right.patches) == 2


def test_trained_networks_are_plotted_against_their_size():
    (axes,) = draw_size([*TRAINED, *CANDIDATES]).axes
    places = [points(c)[0] for c in axes.collections]
    assert places == [(11.2, 45.0), (3.6, 49.0)]
    assert [text.get_text() for text in axes.texts] == ["resnet18", "racl"]


def test_one_network_has_no_correlation():
    (axes,) = draw_density(CANDIDATES[:1]).axes
    assert axes.get_title() == "1 fine-tuned"


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_without_records_to_show_is_refused(name):
    with pytest.raises(ValueError, match=r"records must contain .*, got none\."):
        PLOTS[name]([record("supernet", default=0.5)])


def test_networks_of_different_depth_are_refused():
    deeper = record("screen", {"fsp_unit": [0.1, 0.2, 0.3]}, default=0.1, clean=0.2)
    with pytest.raises(ValueError, match=r"same depth, got \[2, 3\] cells"):
        draw_fsp([*SCREENED, deeper])


def test_the_same_records_give_the_same_bytes(tmp_path):
    first = save_plot(tmp_path / "a" / "size", TRAINED, "size")
    second = save_plot(tmp_path / "b" / "size", TRAINED, "size")
    assert [file.name for file in first] == ["size.svg", "size.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_an_unknown_plot_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"plot must be one of .*'density'.*, got 'densty'"):
        save_plot(tmp_path / "x", TRAINED, "densty")
