"""Drawings of cells: what they show, where text and lines are, and the files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch, PathPatch

from nni_robust.report import draw_cells, save_cells
from nni_robust.report.lane import lanes
from nni_robust.space import Edge
from nni_robust.space.edge import EDGES
from nni_robust.space.robnet_genotype import robnet_edges

ROBNET_LARGE = "1111111111011101101101010111"
FULL = "11" * 14

# DARTS, second order, as printed: two pairs (operation, input) per node.
DARTS = {
    "normal": [
        *[("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        *[("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)],
    ],
    "reduce": [
        *[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1)],
        *[("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)],
    ],
}
# Both inputs of a node may come from one state, as in NASNet-A.
TWINS = [(0, 2), (0, 2), (1, 3), (1, 3), (2, 4), (2, 4), (3, 4), (3, 4)]


def pairs_to_edges(pairs):
    return [Edge(source, 2 + k // 2, (name,)) for k, (name, source) in enumerate(pairs)]


CELLS = {
    "darts": {name: pairs_to_edges(pairs) for name, pairs in DARTS.items()},
    "robnet-large": {"cell": robnet_edges(ROBNET_LARGE)},
    "full": {"cell": robnet_edges(FULL)},
    "twins": {"cell": [Edge(s, t, ("avg_pool_3x3",)) for s, t in TWINS]},
    "weighted": {"cell": [Edge(s, t, ("none",), 0.1 * i) for i, (s, t) in enumerate(EDGES)]},
    "crowded edge": {"cell": [Edge(s, t, tuple("abcdef")) for s, t in EDGES]},
    "one node": {"cell": [Edge(0, 2, ("conv",))]},
}
STATES = {"$c_{k-2}$": 0, "$c_{k-1}$": 1, "2": 2, "3": 3, "4": 4, "5": 5}


def texts(axes):
    return Counter(text.get_text() for text in axes.texts)


def operations(axes):
    return [text for text in axes.texts if text.get_text() not in {*STATES, "$c_k$"}]


def lines(axes):
    return [patch for patch in axes.patches if type(patch) is PathPatch]


def lines_through(label):
    extent = label.get_window_extent()
    paths = [line.get_path().transformed(line.get_transform()) for line in lines(label.axes)]
    return [path for path in paths if path.intersects_bbox(extent, filled=False)]


def drawn(cells, **arguments):
    figure = draw_cells(cells, **arguments)
    FigureCanvasAgg(figure).draw()
    return figure


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_panel_shows_the_names_of_its_cell_states_and_operations():
    figure = draw_cells(CELLS["darts"], title="DARTS")
    states = Counter({"$c_{k-2}$": 1, "$c_{k-1}$": 1, "2": 1, "3": 1, "4": 1, "5": 1, "$c_k$": 1})
    assert [text.get_text() for text in figure.texts] == ["DARTS"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["normal", "reduce"]
    for axes, pairs in zip(figure.axes, DARTS.values(), strict=True):
        assert texts(axes) == states + Counter(name for name, _ in pairs)


def test_the_operations_of_one_edge_share_a_label():
    (axes,) = draw_cells(CELLS["robnet-large"]).axes
    codes = Counter(ROBNET_LARGE[i : i + 2] for i in range(0, 28, 2))
    found = texts(axes)
    assert found["conv + identity"] == codes["11"]
    assert found["conv"] == codes["01"]
    assert found["identity"] == codes["10"]


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_no_text_overlaps_another(cells):
    figure = drawn(cells, title="A title")
    shown = [text for axes in figure.axes for text in [*axes.texts, axes._left_title]]
    shown += [*figure.texts, *figure.legends[0].get_texts()]
    boxes = [text.get_window_extent() for text in shown]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_only_the_lines_of_its_own_edge_pass_through_a_label(cells):
    for axes in drawn(cells).axes:
        for label in operations(axes):
            own = label.get_text().count(" + ") + 1
            # Where an edge has many operations, the outer lines pass above and below the text.
            assert min(own, 2) <= len(lines_through(label)) <= own


def test_the_line_through_a_label_connects_the_states_of_its_edge():
    names = {f"from {source} to {target}": (source, target) for source, target in EDGES}
    edges = [Edge(*ends, (name,)) for name, ends in names.items()]
    (axes,) = drawn({"cell": edges}).axes
    boxes = [patch.get_window_extent() for patch in axes.patches if type(patch) is FancyBboxPatch]
    places = {}
    for text in axes.texts:
        center = axes.transData.transform(text.get_position())
        if text.get_text() in STATES:
            (box,) = [box for box in boxes if box.contains(*center)]
            places[STATES[text.get_text()]] = box.padded(15)  # the head of the arrow
    for label in operations(axes):
        (line,) = lines_through(label)
        ends = line.vertices[0], line.vertices[-1]
        at = [state for end in ends for state, box in places.items() if box.contains(*end)]
        assert at == list(names[label.get_text()])


def test_lines_enter_a_node_in_the_order_of_their_labels_from_top_to_bottom():
    edges = [Edge(source, target, (f"to {target}",)) for source, target in EDGES]
    (axes,) = drawn({"cell": edges}).axes
    for target in range(2, 6):
        labels = [label for label in operations(axes) if label.get_text() == f"to {target}"]
        labels.sort(key=lambda label: label.get_position()[1])
        ends = [path.vertices[-1][1] for label in labels for path in lines_through(label)]
        assert len(ends) == target
        assert ends == sorted(ends)


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_edges_in_the_same_lane_do_not_overlap(cells):
    for edges in cells.values():
        present = [edge for edge in edges if edge.operations]
        # Both inputs are in the first column: from 0 or 1 to 2 is one gap.
        taken = Counter(
            (gap, lane)
            for edge, lane in zip(present, lanes(present), strict=True)
            for gap in range(max(edge.source, 1), edge.target)
        )
        assert set(taken.values()) == {1}


def test_an_edge_is_drawn_on_the_side_without_a_crossing():
    # Above node 3, the edge 2 -> 4 would cross the edge that enters this node.
    edges = [Edge(0, 2, ("a",)), Edge(0, 3, ("a",)), Edge(2, 4, ("a",))]
    above, outside, below = lanes(edges)
    assert (above > 0, outside > 0, below > 0) == (True, True, False)


def test_the_line_width_grows_linearly_with_the_weight():
    weights = [0.3, 0.0, 0.9, 0.6]
    edges = [Edge(0, 2 + i, ("conv",), weight) for i, weight in enumerate(weights)]
    figure = draw_cells({"cell": edges})
    widths = [line.get_linewidth() for line in lines(figure.axes[0])][-4:]
    low, first, second, high = (widths[i] for i in (1, 0, 3, 2))
    assert first - low == pytest.approx(second - first)
    assert second - first == pytest.approx(high - second)
    assert low < high
    assert "weight 0.9" in legend_of(figure)


def test_the_legend_shows_the_kinds_that_occur():
    assert legend_of(draw_cells(CELLS["darts"])) == [
        *["convolution", "dilated convolution", "pooling", "skip connection", "concatenation"]
    ]
    assert legend_of(draw_cells(CELLS["twins"])) == ["pooling", "concatenation"]


def test_a_node_without_operations_is_drawn():
    dead = "11" * 9 + "00" * 5  # no operation on the edges to the last node
    (axes,) = draw_cells({"cell": robnet_edges(dead)}).axes
    assert texts(axes)["5"] == 1
    assert sum(len(edge.operations) for edge in robnet_edges(dead)) == 18
    assert len(lines(axes)) == 18 + 4  # and every node goes to the output


def test_every_cell_has_its_own_panel():
    cells = {f"cell_{i:02}": CELLS["one node"]["cell"] for i in range(12)}
    figure = draw_cells(cells)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(cells)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    inner = [box.padded(-1) for box in boxes]
    assert not any(box.overlaps(other) for i, box in enumerate(inner) for other in inner[:i])


def test_the_same_cells_give_the_same_bytes(tmp_path):
    first = save_cells(tmp_path / "first", CELLS["darts"])
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "none", "savefig.bbox": "tight"}):
        second = save_cells(tmp_path / "second.svg", CELLS["darts"])
    assert [path.name for path in second] == ["second.svg", "second.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_files_are_an_svg_without_fonts_and_a_png(tmp_path):
    svg, png = save_cells(tmp_path / "new" / "v1.2", CELLS["robnet-large"])
    assert sorted(path.name for path in svg.parent.iterdir()) == ["v1.2.png", "v1.2.svg"]
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_full_disk_leaves_the_old_drawing(tmp_path, monkeypatch):
    svg, png = save_cells(tmp_path / "cells", CELLS["one node"])
    before = svg.read_bytes(), png.read_bytes()
    write_bytes = Path.write_bytes

    def half(path, content):
        write_bytes(path, content[: len(content) // 2])
        if ".png" in path.name:
            raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        save_cells(tmp_path / "cells", CELLS["twins"])
    assert (svg.read_bytes(), png.read_bytes()) == before
    assert sorted(tmp_path.iterdir()) == sorted([svg, png])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({}, "cells must contain at least one cell"),
        ({"normal": []}, r"cells.normal must contain at least one edge"),
    ],
)
def test_nothing_to_draw_is_refused_and_writes_nothing(cells, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_cells(tmp_path / "cells", cells)
    assert not list(tmp_path.iterdir())
