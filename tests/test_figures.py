"""The six kinds of figure: drawn is what was given, in its order, with truthful ticks and nobody singled out."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from crmresearch import figures
from crmresearch.errors import InputError
from crmresearch.figures import Mark, draw


def Picture(kind, data, *words, **more):
    """A picture whose marks rest on people only where its data count them."""
    return figures.Picture(kind, data, *words, **{"people": "n" in data, **more})


FOREST = pd.DataFrame(
    {
        "label": ["zeta", "alpha", "middle"],
        "estimate": [0.8, 0.5, 0.9],
        "low": [0.7, 0.4, 0.6],
        "high": [0.95, 0.7, 1.3],
        "n": [100, 9, 50],
    }
)
KEPT = pd.DataFrame(
    {
        "x": [0, 1, 2, 3] * 2,
        "y": [1, 0.9, 0.8, 0.7, 1, 0.8, 0.6, 0.4],
        "group": ["first"] * 4 + ["a later one"] * 4,
        "n": [50, 40, 30, 20, 50, 40, 9, 20],
    }
).assign(low=lambda d: d["y"] - 0.05, high=lambda d: d["y"] + 0.05)
PARTS = pd.DataFrame(
    [(y, p, s) for y in (2021, 2022) for p, s in (("phone", 0.2), ("branch", 0.3), ("atm", 0.5))],
    columns=["label", "part", "share"],
)
CELLS = pd.DataFrame({"row": ["worst", "worst", "best"], "column": ["low", "high", "low"], "value": [0.1, 0.9, 0.4]})
PICTURES = {
    "intervals": Picture("intervals", FOREST, "t", "x", options={"marks": [Mark(1, "no effect")], "log": True}),
    "curves": Picture("curves", KEPT, "t", "x", "y", {"unit": "percent", "step": True}),
    "calibration": Picture(
        "calibration",
        pd.DataFrame({"predicted": [0.1, 0.2], "observed": [0.12, 0.2], "low": [0.1, 0.1], "high": [0.2, 0.3]}),
        "t", "x", "y", {"unit": "percent", "agreement": "as predicted"},
    ),
    "distribution": Picture(
        "distribution", pd.DataFrame({"value": np.linspace(-1000, 5000, 800)}), "t", "x", "y", {"scale": "symlog"}
    ),
    "composition": Picture("distribution", PARTS, "t", "year", "share", {"upright": True}),
    "scatter": Picture("scatter", pd.DataFrame({"x": [1, 2], "y": [3.0, 4.0], "label": ["p", "q"]}), "t", "x", "y"),
    "matrix": Picture("matrix", CELLS, "t", "x", options={"unit": "percent", "bar": "share"}),
    "paths": Picture(
        "scatter",
        pd.DataFrame({"source": ["A"], "target": ["B"], "estimate": [0.5], "low": [0.4], "high": [0.6],
                      "closed": [False]}),
        "t", options={"nodes": {"A": "A", "B": "B\nR² 0.25"}},
    ),
}  # fmt: skip


def drawn(picture):
    ax = draw(picture)
    ax.figure.canvas.draw()
    return ax


def segments(ax):
    return [s for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]


def labels(axis):
    return [t.get_text() for t in axis.get_ticklabels()]


@pytest.mark.parametrize("name", PICTURES)
def test_same_picture_same_bytes(name):
    def png():
        buffer = io.BytesIO()
        draw(PICTURES[name]).figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    assert png() == png()


def test_intervals_stand_in_the_order_given_without_small_cells():
    ax = drawn(PICTURES["intervals"])
    assert labels(ax.yaxis) == ["zeta", "middle"]  # from the top, since places fall
    assert ax.get_yticks().tolist() == [1, 0]
    assert [s[:, 0].tolist() for s in segments(ax)] == [[0.7, 0.95], [0.6, 1.3]]
    points = next(c.get_offsets() for c in ax.collections if not hasattr(c, "get_segments"))
    assert points.tolist() == [[0.8, 1], [0.9, 0]]
    assert [t.get_text() for t in ax.texts] == ["no effect"]
    assert ax.texts[0].get_window_extent().y0 >= ax.bbox.y1  # above the data


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow():
    wild = pd.DataFrame({"label": list("abcdef"), "estimate": 1.0, "low": 0.5, "high": [1.5] * 5 + [900.0]})
    ax = drawn(Picture("intervals", wild, "t", "x"))
    assert ax.get_xlim()[1] < 20
    assert max(s[:, 0].max() for s in segments(ax)) == ax.get_xlim()[1]
    arrows = ax.collections[-1].get_offsets()
    assert arrows.tolist() == [[ax.get_xlim()[1], 0]]
    told = drawn(Picture("intervals", wild[:2], "t", "x", options={"limits": (0.8, 1.2)}))
    assert sorted({tuple(s[:, 0]) for s in segments(told)}) == [(0.8, 1.2)]


def test_groups_on_one_line_are_apart_and_named_beside_the_data():
    two = pd.concat([FOREST.assign(group="z first"), FOREST.assign(group="a second")]).assign(n=100)
    ax = drawn(Picture("intervals", two, "t", "x"))
    assert len({round(float(s[0, 1]), 6) for s in segments(ax)}) == 6
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["z first", "a second"]
    assert legend.get_window_extent().x0 >= ax.bbox.x1


def test_bars_run_from_their_base_with_the_interval_at_the_end():
    flow = pd.DataFrame({"label": ["open", "won"], "estimate": [5.0, 8.0], "low": 4.0, "high": 9.0, "base": [0, 5.0]})
    ax = drawn(Picture("intervals", flow, "t", "", "y", {"upright": True}))
    assert [(p.get_y(), p.get_height()) for p in ax.patches] == [(0, 5), (5, 3)]


def test_curves_are_what_was_given_broken_at_small_cells():
    ax = drawn(PICTURES["curves"])
    lines = [line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata())]
    assert lines == [[[0, 1], [1, 0.9], [2, 0.8], [3, 0.7]], [[0, 1], [1, 0.8]], [[3, 0.4]]]
    assert {line.get_drawstyle() for line in ax.lines} == {"steps-post"}
    names = {t.get_text(): t for t in ax.texts}
    assert set(names) == {"first", "a later one"}
    assert all(Text.get_window_extent(t).x0 >= ax.bbox.x1 for t in names.values())  # without the line to the curve
    assert names["a later one"].get_color() == ax.lines[1].get_color() != ax.lines[0].get_color()


def test_numbers_at_risk_stand_under_the_axis_and_hide_small_ones():
    risk = pd.DataFrame({"group": "all", "time": [0, 1, 2, 3], "at_risk": [90, 50, 40, 9]})
    ax = drawn(Picture("curves", KEPT[:4], "t", "x", "y", {"risk": risk, "xlim": (0, 3), "step": True}))
    below = {t.get_text() for t in ax.texts if t.get_window_extent().y1 < ax.bbox.y0}
    assert {"at risk", "50", "40", "<10", "0"} <= below
    assert "9" not in below


def test_stacked_areas_add_up_and_dashed_curves_lie_over_them():
    wrong = KEPT[:4].assign(group="wrong", dashed=True)
    data = pd.concat([KEPT.assign(dashed=False, n=50), wrong]).drop(columns=["low", "high"])
    ax = drawn(Picture("curves", data, "t", "x", "y", {"stacked": True}))
    assert ax.collections[1].get_paths()[0].vertices[:, 1].max() == 2
    assert [line.get_linestyle() for line in ax.lines] == ["--"]
    assert ax.get_legend().get_window_extent().x0 >= ax.bbox.x1


def test_histogram_has_equal_bins_on_its_axis_and_densities():
    groups = pd.DataFrame({"value": np.r_[np.linspace(-900, 4000, 1000), [5000] * 9 + [1] * 200]})
    groups["group"] = ["even"] * 1000 + ["nine and many"] * 209
    ax = drawn(Picture("distribution", groups, "t", "x", "y", {"scale": "symlog", "unit": "money"}))
    even, other = (c.get_paths()[0].vertices for c in ax.collections)
    edges = np.unique(even[:, 0])
    widths = np.diff(ax.xaxis.get_transform().transform(edges))
    np.testing.assert_allclose(widths, widths[0], rtol=1e-6)

    def total(outline):
        return sum(a[1] for a, b in itertools.pairwise(outline) if a[1] == b[1] and a[0] != b[0])

    assert total(even) == pytest.approx(1, abs=0.06)  # bins of under ten people are empty
    assert other[:, 1].max() == pytest.approx(200 / 209)
    assert other[other[:, 0] > 4000, 1].max() == 0  # nine people
    ticks = dict(zip(ax.get_xticks().tolist(), labels(ax.xaxis), strict=True))
    assert ticks[1000.0] == "1,000"
    assert ticks[0.0] == "0"


def test_composition_keeps_the_order_of_parts_and_years_their_distance():
    ax = drawn(PICTURES["composition"])
    stacks = sorted((p.get_x() + p.get_width() / 2, p.get_y(), p.get_height()) for p in ax.patches if p.get_height())
    assert [round(s[2], 6) for s in stacks[:3]] == [0.2, 0.3, 0.5]  # the first part lies at the axis
    assert {round(s[0]) for s in stacks} == {2021, 2022}
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["atm", "branch", "phone"]  # as they lie
    assert legend.get_window_extent().x0 >= ax.bbox.x1


def test_ordered_parts_get_a_sequential_palette():
    ordered = drawn(Picture("distribution", PARTS.assign(label="x"), "t", options={"ordered": True}))
    shades = [sum(p.get_facecolor()[:3]) for p in sorted(ordered.patches, key=lambda p: p.get_x()) if p.get_width()]
    assert shades == sorted(shades, reverse=True)  # light to dark


def test_scatter_names_its_points_in_the_margin():
    ax = drawn(PICTURES["scatter"])
    assert ax.collections[0].get_offsets().tolist() == [[1, 3], [2, 4]]
    assert {t.get_text() for t in ax.texts} == {"p", "q"}
    low, high = sorted(ax.texts, key=lambda t: t.get_position()[1])
    assert (low.get_text(), high.get_text()) == ("p", "q")


def test_matrix_writes_its_values_and_a_dash_where_there_is_none():
    ax = drawn(PICTURES["matrix"])
    assert {t.get_text() for t in ax.texts if t.get_text()} == {"10%", "90%", "40%", "–"}
    assert (labels(ax.yaxis), labels(ax.xaxis)) == (["worst", "best"], ["low", "high"])
    few = drawn(Picture("matrix", CELLS.assign(n=[50, 9, 50]), "t", options={"unit": "percent"}))
    assert "90%" not in {t.get_text() for t in few.texts}


def test_calibration_has_its_line_of_agreement():
    ax = drawn(PICTURES["calibration"])
    x, y = ax.lines[0].get_data()
    assert np.array_equal(x, y)
    assert ax.get_xlim() == ax.get_ylim()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["as predicted"]


def test_ticks_are_not_rounded():
    from crmresearch.figures.dress import Ticks

    assert Ticks("percent").format_ticks([0.85, 0.875, 0.9]) == ["85.0%", "87.5%", "90.0%"]
    assert Ticks("percent").format_ticks([0, 0.2, 0.4]) == ["0%", "20%", "40%"]
    assert Ticks("points").format_ticks([-0.005, 0.0]) == ["-0.5", "0.0"]
    assert Ticks("money").format_ticks([0, 1250, 2500]) == ["0", "1,250", "2,500"]
    assert Ticks().format_ticks([2021, 2022]) == ["2021", "2022"]
    assert Ticks(each=True).format_ticks([0.01, 0.5, 10]) == ["0.01", "0.5", "10"]


def test_money_is_named_by_its_currency():
    try:
        figures.use(currency="CNY")
        ax = draw(Picture("curves", KEPT[:4], "t", "x", "money per month"))
        assert ax.get_ylabel() == "CNY per month"
        ax = draw(Picture("curves", KEPT[:4], "t", "x", "value per customer", {"unit": "money"}))
        assert ax.get_ylabel() == "value per customer, CNY"
    finally:
        figures.use()


def test_long_labels_stay_on_the_page():
    rows = FOREST.assign(label=[f"{k}: a model with a name that takes more room than there is" for k in "abc"], n=99)
    picture = Picture("intervals", rows, "A title " * 14, "an axis label that is longer than its axis " * 4)
    ax = drawn(picture)
    page = ax.figure.bbox
    title = ax.figure._suptitle
    texts = [title, ax.xaxis.label, *ax.yaxis.get_ticklabels()]
    for extent in (t.get_window_extent() for t in texts):
        assert extent.x0 >= page.x0 - 1
        assert extent.x1 <= page.x1 + 1


@pytest.mark.parametrize("upright", [False, True])
def test_intervals_are_drawn_from_end_to_end_even_around_another_estimate(upright):
    two = pd.DataFrame({"label": ["a", "b"], "estimate": [1.0, 5.0], "low": [0.5, 2.0], "high": [2.0, 4.0]})
    ax = drawn(Picture("intervals", two, "t", options={"upright": upright}))
    along, across = (1, 0) if upright else (0, 1)
    bars = segments(ax)
    assert [bar[:, along].tolist() for bar in bars] == [[0.5, 2.0], [2.0, 4.0]]
    assert [bar[:, across].tolist() for bar in bars] == ([[0, 0], [1, 1]] if upright else [[1, 1], [0, 0]])
    points = next(c.get_offsets() for c in ax.collections if not hasattr(c, "get_segments"))
    assert points[:, along].tolist() == [1.0, 5.0]


def test_an_alphabet_is_no_order():
    bands = KEPT.assign(group=pd.Categorical(["low"] * 4 + ["high"] * 4, ["low", "high"], ordered=True), n=50)
    ax = drawn(Picture("curves", bands, "t", "x", "y", {"legend": "band"}))
    names = [t for t in ax.texts if t.get_text() in ("low", "high")]
    assert [t.get_text() for t in sorted(names, key=lambda t: -t.get_position()[1])] == ["low", "high"]
    assert sum(ax.lines[0].get_color()[:3]) > sum(ax.lines[1].get_color()[:3])  # light to dark


def test_texts_in_several_lines_are_of_about_equal_length():
    from crmresearch.figures.dress import wrap

    assert wrap("a label with one word too many", 28) == "a label with one\nword too many"
    assert wrap("short\nand kept", 28) == "short\nand kept"
    assert wrap("", 28) == ""


# --- told in words ----------------------------------------------------------------------------------------------------

NUMBER = r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?"


def strange(text: str, picture: Picture) -> list[str]:
    """Numbers of a text that stand nowhere in the picture's data, rounded as they are written, nor in its names."""
    frames, marks = [picture.data, picture.options.get("points", pd.DataFrame())], picture.options.get("marks", ())
    drawn = [f.select_dtypes("number").to_numpy(float).ravel() for f in frames] + [np.array([m.at for m in marks])]
    if "base" in picture.data:
        ends = picture.data.columns.intersection(["estimate", "ci_low", "ci_high", "low", "high"])
        drawn.append(picture.data[ends].sub(picture.data["base"], axis=0).to_numpy(float).ravel())
    values = np.abs(np.concatenate([scale * d for d in drawn for scale in (1, 100)]))
    names = [picture.x, picture.y, *(m.text for m in marks), *picture.options.get("nodes", ())]
    names += [str(v) for f in frames for c in f.select_dtypes(exclude="number") for v in f[c].unique()]
    named, out = set(re.findall(NUMBER, " ".join(names))), []
    for found in re.finditer(NUMBER, text):
        token = found[0]
        if token.isdigit() and int(token) <= len(picture.data) and text[found.end() : found.end() + 1] != "%":
            continue  # how many marks there are, or how many of them
        if re.match(" (year|month)s?:", text[found.end() :]):
            continue  # a horizon that was set
        half = 0.5000001 * 10.0 ** -len(token.partition(".")[2])
        if token not in named and not (np.abs(values - abs(float(token.replace(",", "")))) <= half).any():
            out.append(token)
    return out


@pytest.mark.parametrize("name", [n for n in PICTURES if n != "distribution"])  # that one tells shares of its own
def test_what_is_told_is_what_is_drawn(name):
    text = figures.told(PICTURES[name])
    assert strange(text, PICTURES[name]) == []
    assert len(re.findall(NUMBER, text)) >= 2
    assert "nan" not in text


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("curves", "the later one ends at 59%"),  # it ends at 40%
        ("intervals", "no effect: 1.01"),
        ("composition", "phone 20%, atm 49%"),
        ("matrix", "worst by high: 0.8"),
        ("paths", "A to B 0.53"),
    ],
)
def test_a_number_that_is_not_drawn_is_found(name, planted):
    assert strange(planted, PICTURES[name]) == re.findall(NUMBER, planted)[-1:]


def test_curves_are_told_at_their_own_ends_and_no_small_cell_is_told():
    text = figures.told(PICTURES["curves"])
    assert "first: 100% [95%, 105%] at 0, 90% [85%, 95%] at 1, 80% [75%, 85%] at 2, 70% [65%, 75%] at 3" in text
    assert "60%" not in text  # nine people
    assert "alpha" not in figures.told(PICTURES["intervals"])
    assert figures.told(Picture("intervals", FOREST.assign(n=3), "t")) == ""
    flow = pd.DataFrame({"label": ["open", "won"], "estimate": [5.0, 8.0], "low": 4.0, "high": 9.0, "base": [0, 5.0]})
    assert "won: 3 [-1, 4]" in figures.told(Picture("intervals", flow, "t"))


@pytest.mark.parametrize(("below", "above"), [(0, 60), (9, 60), (10, 60), (60, 9), (60, 10), (60, 0)])
def test_a_histogram_tells_no_side_of_zero_with_few_people(below, above):
    data = pd.DataFrame({"value": np.repeat([-5.0, 5.0], [below, above]), "group": "g"})
    text = figures.told(Picture("distribution", pd.concat([data, data[:9].assign(value=7.0, group="few")]), "t"))
    told = [f"{100 * below / (below + above):.3g}% below zero"] if below >= 10 and above != 9 else []
    assert re.findall(r"[\d.]+% below zero", text) == told
    assert "few" not in text


def test_of_many_marks_the_ends_are_told():
    many = pd.DataFrame({"label": [f"m{k}" for k in range(40)], "estimate": np.arange(40.0) - 7})
    assert "Estimates: 40 of them, from m0: -7 to m39: 32." in figures.told(Picture("intervals", many, "t"))


# -- the door ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, p in PICTURES.items() if p.people is False and n != "distribution"])
def test_a_figure_that_does_not_say_how_many_people_is_refused(name):
    old = PICTURES[name]
    with pytest.raises(InputError, match="how many people stand behind a mark"):
        figures.Picture(old.kind, old.data, "t", options=old.options)


@pytest.mark.parametrize("data", [FOREST, KEPT.rename(columns={"y": "estimate"}).assign(label=range(8))])
def test_rows_that_a_table_hides_are_drawn_nowhere(data):
    from crmresearch.disclosure import safe

    picture = figures.Picture("intervals", safe(data), "t")
    assert len(picture.data) == int(safe(data)["n"].notna().sum()) < len(data)


def test_a_histogram_ends_at_no_single_customer():
    data = pd.DataFrame({"value": [*np.linspace(0, 100, 300), 98_765_432.1, 1e9]})
    ax = drawn(figures.Picture("distribution", data, "t"))
    assert max(ax.get_xlim()) < 101


def test_two_counts_at_risk_differ_by_no_few():
    risk = pd.DataFrame({"group": "", "time": range(8), "at_risk": [900, 900, 897, 600, 599, 300, 30, 4]})
    ax = drawn(Picture("curves", KEPT[:4].assign(x=[0, 2, 4, 6]), "t", "x", "y", {"risk": risk, "xlim": (0, 7)}))
    told = [int(t.get_text().replace(",", "")) for t in ax.texts if re.fullmatch(r"[\d,]+", t.get_text())]
    assert all(abs(a - b) >= 10 for a, b in itertools.pairwise(told))
