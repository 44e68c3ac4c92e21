"""mmbench/figures: what is drawn is what the leaderboard says, in the same bytes each time."""

import copy
import re
from dataclasses import replace
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from mmbench import figures
from mmbench.errors import DataError
from mmbench.figures import KINDS, Undrawable, draw, encode
from mmbench.figures.cost import Point, pareto
from mmbench.figures.curves import is_curve
from mmbench.figures.differences import bars
from mmbench.figures.embedding import EACH, Cloud, clouds, embedding, read, write
from mmbench.figures.looks import look, sheet
from mmbench.figures.names import Marked, name_markers
from mmbench.figures.subject import Subject
from mmbench.jobs import Outcome
from mmbench.leaderboard import AVERAGE, Leaderboard
from mmbench.significance import TEST_COLUMNS
from mmbench.store import Store
from mmbench.summary import QUANTITY_COLUMNS
from mmbench.tidy import tidy

RATES = (0.2, 0.5, 1.0)


@pytest.fixture
def make_board(make_manifest):
    """A leaderboard with curves: alpha is better and slower than beta, gamma is the ceiling."""

    def make(labels=("happy", "sad"), seeds=3, synthetic=True, quick=False):
        manifests = []
        for method, top in (("alpha", 0.8), ("beta", 0.7), ("gamma", 0.9)):
            for seed in range(seeds if method != "gamma" else 1):
                m = make_manifest(method, seed, labels=labels, synthetic=synthetic, quick=quick)
                m["method"] |= {"competes": method != "gamma"}
                m["seconds"] = {"train": {"alpha": 90.0, "beta": 10.0, "gamma": 1.0}[method] + seed}
                m["protocols"]["fade"] = m["protocols"]["inter"] | {
                    "id": "fade@1",
                    "average": "AUC",
                    "conditions": [
                        {
                            "name": f"{p}",
                            "title": f"p={p}",
                            "observed": ["l", "a"],
                            "rate": p,
                            "complete": False,
                        }
                        for p in RATES
                    ],
                    "effective_rate": {f"{p}": {"l": p, "a": p} for p in RATES},
                }
                for metric in ("f1", "mae"):
                    for n, label in enumerate(labels):
                        told = {
                            "protocol": "fade",
                            "mask_seed": 0,
                            "metric": metric,
                            "label": label,
                        }
                        values = [top - 0.1 * n - 0.2 * p + 0.01 * seed for p in RATES]
                        m["scores"] += [
                            told | {"condition": f"{p}", "value": v}
                            for p, v in zip(RATES, values, strict=True)
                        ]
                        m["averages"].append(told | {"value": float(np.mean(values))})
                manifests.append(m)
        return Leaderboard.from_manifests("small", manifests)

    return make


def with_tests(board, apart):
    """The same with ranks, and with tests that call these pairs of the protocol fade different."""
    made = copy.deepcopy(board)
    (section,) = made.sections
    subject = Subject.of(made)
    names = [row.label for row in subject.ordered("fade")]
    known = ("fade", subject.overall, AVERAGE)
    lines = [
        (*known, a, b, 3, 0.1, 0.05, 5.0, 0.01, 0.04 if frozenset((a, b)) in apart else 0.06)
        for a, b in combinations(names, 2)
    ]
    ranks = [("fade", subject.overall, name, "rank", 1.0 + n) for n, name in enumerate(names)]
    others = section.summaries.itertuples(index=False, name=None)
    object.__setattr__(section, "tests", tidy(lines, TEST_COLUMNS))
    object.__setattr__(section, "summaries", tidy([*others, *ranks], QUANTITY_COLUMNS))
    return made


def lines_of(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_are_the_cells_of_protocols_whose_conditions_differ_in_their_rate(make_board):
    board = make_board()
    figure = draw("curves", board)
    assert [ax.get_title() for ax in figure.axes] == ["happy", "sad"]
    cells = board.sections[0].cells
    for label, ax in zip(("happy", "sad"), figure.axes, strict=True):
        drawn = lines_of(ax)
        for method in ("alpha", "beta", "gamma"):
            own = cells[
                (cells["protocol"] == "fade")
                & (cells["metric"] == "f1")
                & (cells["label"] == label)
                & (cells["method"] == method)
            ].set_index("column")
            x, y = drawn[method].get_data()
            assert list(x) == list(RATES)
            np.testing.assert_allclose(y, [100 * own.loc[f"{p}", "mean"] for p in RATES])
        floor = next(line for line in ax.get_lines() if len(set(line.get_ydata())) == 1)
        assert set(floor.get_ydata()) == {50.0}


def test_bands_are_one_standard_deviation_over_seeds_to_either_side(make_board):
    board = make_board(labels=("sentiment",))
    (ax,) = draw("curves", board).axes
    band, _ = sorted(
        (c.get_paths()[0].vertices for c in ax.collections), key=lambda v: -v[:, 1].max()
    )
    first = band[band[:, 0] == RATES[0], 1]
    mean, spread = 100 * (0.8 - 0.2 * RATES[0] + 0.01), 100 * np.std([0, 0.01, 0.02], ddof=1)
    assert [first.min(), first.max()] == pytest.approx([mean - spread, mean + spread])


def test_one_seed_has_no_band_and_a_curve(make_board):
    (ax,) = draw("curves", make_board(labels=("sentiment",), seeds=1)).axes
    for band in ax.collections:
        vertices = band.get_paths()[0].vertices
        assert np.isfinite(vertices).all()
        assert {np.ptp(vertices[vertices[:, 0] == p, 1]) for p in RATES} == {0.0}


def test_the_legend_has_the_ceiling_first_then_the_best_and_stands_beside_the_panels(make_board):
    figure = draw("curves", make_board())
    assert legend_of(figure) == ["ceiling", "alpha", "beta", "floor"]
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert all(ax.get_window_extent().x1 < box.x0 for ax in figure.axes)


def test_synthetic_data_is_named_in_every_title(make_board):
    made, real = (with_tests(make_board(synthetic=s), set()) for s in (True, False))
    for kind in figures.KINDS:
        assert "(synthetic data)" in draw(kind, made).get_suptitle()
        assert "synthetic" not in draw(kind, real).get_suptitle()


def test_nothing_is_cut_at_the_edge_or_covered_by_the_title(make_board):
    board = with_tests(make_board(), set())
    for kind in figures.KINDS:
        figure = draw(kind, board)
        figure.draw_without_rendering()
        inside = figure.get_tightbbox()  # inches
        width, height = figure.get_size_inches()
        assert inside.x0 >= 0 and inside.y0 >= 0 and inside.x1 <= width and inside.y1 <= height, (
            kind
        )
        title = figure._suptitle.get_window_extent()
        for ax in figure.axes:
            assert not title.overlaps(ax.title.get_window_extent()) or not ax.get_title(), kind


def test_choosing_methods_leaves_the_others_out_and_colours_as_they_are(make_board):
    board = make_board()
    every, one = (draw("curves", board, chosen) for chosen in ((), ("beta",)))
    assert legend_of(one) == ["ceiling", "beta", "floor"]
    colours = [lines_of(figure.axes[0])["beta"].get_color() for figure in (every, one)]
    assert colours[0] == colours[1] != lines_of(every.axes[0])["alpha"].get_color()
    with pytest.raises(Undrawable, match="unknown method 'beto'; did you mean 'beta'"):
        draw("curves", board, ("beto",))


def test_looks_differ_in_more_than_their_colour():
    looks = [look(number) for number in range(78)]
    assert len({(each.colour, each.marker) for each in looks}) == 78
    assert len({each.marker for each in looks[:13]}) == 13


def test_no_curves_where_conditions_differ_in_what_is_there(make_manifest):
    board = Leaderboard.from_manifests("small", [make_manifest()])
    with pytest.raises(Undrawable, match=r"small has no curves: .*\(inter\)"):
        draw("curves", board)


def test_a_curve_has_the_same_modalities_at_every_rate():
    fades = [{"observed": ["l", "a"], "rate": p} for p in RATES]
    assert is_curve({"conditions": fades})
    assert not is_curve({"conditions": [*fades, {"observed": ["l"], "rate": 0.1}]})
    assert not is_curve({"conditions": [*fades, fades[0]]})
    assert not is_curve({"conditions": fades[:1]})


def test_nothing_finished_is_told(make_manifest):
    board = Leaderboard.from_manifests("small", [make_manifest(reason="boom")])
    with pytest.raises(Undrawable, match="small has no finished result"):
        draw("cost", board)


def test_quick_rows_are_drawn_only_if_there_is_nothing_else(make_board, make_manifest):
    rows = Subject.of(make_board(quick=True)).rows
    assert {row.label for row in rows} == {"alpha (quick)", "beta (quick)", "gamma (quick)"}
    board = Leaderboard.from_manifests("small", [make_manifest(), make_manifest(quick=True)])
    assert [row.label for row in Subject.of(board).rows] == ["alpha"]


@pytest.mark.parametrize("apart", [set(), {frozenset(("alpha", "beta"))}])
def test_bars_of_a_critical_difference_diagram_are_the_tests_of_the_board(make_board, apart):
    figure = draw("critical-difference", with_tests(make_board(), apart))
    scores, joined = figure.axes
    assert scores.get_title() == "fade@1, AUC"
    assert [t.get_text() for t in scores.get_yticklabels()] == ["1  alpha", "2  beta"]
    drawn = [list(line.get_ydata()) for line in joined.get_lines()]
    assert drawn == ([] if apart else [[0, 1]])


def test_its_dots_are_the_summary_for_the_mean_over_labels(make_board):
    board = with_tests(make_board(), set())
    scores = draw("critical-difference", board).axes[0]
    x = [line.get_xdata()[0] for line in scores.get_lines()]
    expected = [100 * (top - 0.05 - 0.2 * np.mean(RATES) + 0.01) for top in (0.8, 0.7)]
    assert x == pytest.approx(expected)


def test_without_tests_there_is_no_such_diagram_and_it_says_why(make_board):
    with pytest.raises(Undrawable, match="alpha: its predictions are not at hand"):
        draw("critical-difference", make_board())


NAMES = "abcdefg"
PAIRS = [frozenset(pair) for pair in combinations(NAMES, 2)]


@given(st.sets(st.sampled_from(PAIRS)))
def test_two_methods_share_a_bar_exactly_if_they_are_not_apart(apart):
    found = bars(NAMES, apart)
    for pair in PAIRS:
        assert any(pair <= set(members) for members in found) == (pair not in apart)
    for a, b in combinations(found, 2):  # and no bar says what another one says
        assert not set(a) <= set(b) and not set(b) <= set(a)
    assert all(list(members) == sorted(members) and len(members) > 1 for members in found)


def test_cost_is_the_mean_of_training_seconds_and_the_summary(make_board):
    board = make_board()
    figure = draw("cost", board)
    assert [ax.get_title() for ax in figure.axes] == ["inter@1, Avg.", "fade@1, AUC"]
    ax = figure.axes[1]
    assert ax.get_xscale() == "log"
    places = {c.get_label(): c.get_offsets()[0] for c in ax.collections}
    assert set(places) == {"alpha", "beta"}
    np.testing.assert_allclose(places["alpha"], [91.0, 100 * (0.75 - 0.2 * np.mean(RATES) + 0.01)])
    assert places["beta"][0] == 11.0
    x, _ = lines_of(ax)["Pareto front"].get_data()
    assert list(x) == [11.0, 91.0]
    assert {text.get_text() for text in ax.texts} == {"alpha", "beta"}


def test_what_trains_in_no_time_is_named_and_not_drawn(make_board, make_manifest):
    still = make_manifest("still")
    still["seconds"]["train"] = 0.0
    figure = draw("cost", Leaderboard.from_manifests("small", [make_manifest(), still]))
    assert [c.get_label() for c in figure.axes[0].collections] == ["alpha"]
    assert "takes no time: still" in figure.get_supxlabel()


POINTS = st.lists(
    st.builds(Point, st.just(""), st.integers(1, 6), st.integers(0, 6), st.just(1)), min_size=1
)


@given(POINTS, st.sampled_from((1, -1)))
def test_the_front_beats_or_equals_whatever_it_leaves_out(points, sign):
    front = pareto(points, sign)
    for point in points:
        assert any(
            f.seconds <= point.seconds and sign * f.score >= sign * point.score for f in front
        )
    for a, b in combinations(front, 2):
        assert a.seconds < b.seconds and sign * a.score < sign * b.score


def test_the_same_leaderboard_gives_the_same_bytes(make_board, tmp_path, monkeypatch):
    import matplotlib as mpl

    board = with_tests(make_board(), set())
    for kind in figures.KINDS:
        for form in figures.FORMATS:
            first = encode(draw(kind, board), form)
            with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other", "axes.linewidth": 9}):
                second = encode(draw(kind, copy.deepcopy(board)), form)
            assert first == second, (kind, form)
            assert b"<dc:date>" not in first and b"matplotlib.org" not in first


def test_a_figure_is_written_whole_and_its_folder_made(make_board, tmp_path):
    path = figures.write(draw("curves", make_board()), tmp_path / "deep" / "a.svg")
    assert path.read_text().startswith("<?xml")
    assert [p.name for p in path.parent.iterdir()] == ["a.svg"]


@pytest.fixture
def represented(make_manifest, tmp_path):
    """A leaderboard and its store: alpha's groups lie apart, beta's do not, gamma has none."""
    store, rng = Store(tmp_path / "runs"), np.random.default_rng(0)
    store.check_writable()
    groups = np.repeat(["happy", "sad", ""], [EACH + 20, 30, 10])
    manifests = []
    for method, gap in (("alpha", 8.0), ("beta", 0.0), ("gamma", None)):
        for seed in (1, 2):
            m, arrays = make_manifest(method, seed), {}
            if gap is not None:
                values = rng.standard_normal((len(groups), 4))
                values[groups == "sad", 0] += gap * seed
                values[:, 3] = 7.0
                arrays = {"values": values.astype(np.float32), "groups": groups}
                m["representations"] = {"condition": "{l}, p=0.5"}
            store.save(Outcome(m, {"targets": np.zeros((2, 1))}, arrays))
            manifests.append(m)
    return Leaderboard.from_manifests("small", store.manifests()), store


def test_clouds_are_the_first_samples_of_each_group_of_the_lowest_seed(represented):
    board, store = represented
    found = clouds(Subject.of(board), store)
    assert [(c.method, c.seed) for c in found] == [("alpha", 1), ("beta", 1)]
    for cloud in found:
        names, counts = np.unique(cloud.groups, return_counts=True)
        assert dict(zip(names, counts, strict=True)) == {"happy": EACH, "sad": 30}
        np.testing.assert_allclose(cloud.values.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(cloud.values.std(0), [1, 1, 1, 0], atol=1e-6)
    assert found[0].silhouette > 0.3 > 0.1 > abs(found[1].silhouette)


def test_an_embedding_has_a_panel_for_each_method_with_its_silhouette(represented):
    board, store = represented
    shown = figures.embedding_of(board, store)
    figure = embedding(shown)
    assert [(each.method, each.seed) for each in shown.panels] == [("alpha", 1), ("beta", 1)]
    assert [ax.get_title() for ax in figure.axes] == [
        f"{each.method}\nsilhouette {each.silhouette:.3f}" for each in shown.panels
    ]
    assert {len(c.get_offsets()) for c in figure.axes[0].collections} == {EACH, 30}
    assert legend_of(figure) == ["happy", "sad"]
    assert "{l}, p=0.5" in figure.get_suptitle() and "synthetic" in figure.get_suptitle()
    again = embedding(figures.embedding_of(board, store))
    assert encode(figure, "svg") == encode(again, "svg")


def test_panels_stand_in_the_order_that_is_asked_for(represented):
    board, store = represented
    shown = figures.embedding_of(board, store, ["beta", "alpha", "beta"])
    assert [each.method for each in shown.panels] == ["beta", "alpha"]


def test_an_embedding_is_drawn_from_its_file_as_it_was_from_the_store(represented, tmp_path):
    shown = figures.embedding_of(*represented)
    path = figures.put(write(shown).encode(), tmp_path / "a" / "points.json")
    again = read(path)
    assert write(again) == write(shown)
    for each in again.panels:
        assert all(np.array_equal(own, own.round(2)) for own in each.points.values())
    assert encode(embedding(again), "svg") == encode(embedding(shown), "svg")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"version": 1', '"version": 2'),
        ('"mmbench embedding"', '"another"'),
        ('"panels"', '"panes"'),
        ('"x": [', '"x": [1.5, '),
        ('"silhouette"', '"silhouettes"'),
        ("{", "["),
    ],
)
def test_a_file_that_is_no_embeddings_is_told(represented, tmp_path, before, after):
    content = write(figures.embedding_of(*represented))
    assert before in content
    path = figures.put(content.replace(before, after, 1).encode(), tmp_path / "points.json")
    with pytest.raises(DataError, match="not the points of an embedding"):
        read(path)


def test_the_silhouette_is_the_mean_coefficient_by_hand():
    cloud = Cloud("m", 0, "", "", np.array([[0.0], [1.0], [5.0]]), np.array(["a", "a", "b"]))
    assert cloud.silhouette == pytest.approx(((5 - 1) / 5 + (4 - 1) / 4 + 0) / 3)


def test_without_a_store_or_representations_the_embedding_says_what_to_do(represented, tmp_path):
    board, _ = represented
    with pytest.raises(Undrawable, match="needs a store"):
        figures.embedding_of(board, None)
    with pytest.raises(Undrawable, match="run --embeddings"):
        figures.embedding_of(board, Store(tmp_path / "other"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_text_and_no_formula(make_board, kind):
    board = with_tests(make_board(labels=(r"$\nothing$", "sad")), apart=())
    (section,) = board.sections
    for name, table in section.tables.items():
        object.__setattr__(section, name, table.replace("alpha", r"$\nothing$"))
    rows = [replace(row, label=row.label.replace("alpha", r"$\nothing$")) for row in section.rows]
    object.__setattr__(section, "rows", rows)
    figure = draw(kind, board)
    assert any(r"$\nothing$" in text.get_text() for text in figure.findobj(Text))
    encode(figure, "svg")


@pytest.mark.parametrize("seed", range(4))
def test_names_cover_neither_each_other_nor_another_marker(seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.1, 0.9, (11, 2))
    marked = [Marked(f"method-{n}", (x, y), 4.0) for n, (x, y) in enumerate(places)]
    figure = sheet(5.0, 4.4, "crowd")
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    name_markers(ax, marked, [[(0.1, 0.1), (0.9, 0.9)]])
    figure.draw_without_rendering()
    names = {t.get_text(): t.get_window_extent() for t in ax.texts if t.get_text()}
    assert set(names) == {each.name for each in marked}
    for a, b in combinations(names.values(), 2):
        assert not a.overlaps(b)
    frame = ax.get_window_extent()
    for name, box in names.items():
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        for each in marked:
            assert each.name == name or not box.contains(*ax.transData.transform(each.at))


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_has_no_mean_and_no_spread(make_manifest, seeds):
    manifests = [make_manifest(seed=seed) for seed in range(seeds)]
    subject = Subject.of(Leaderboard.from_manifests("small", manifests))
    assert subject.over_seeds("mean") == ("1 seed" if seeds == 1 else "mean of 2 seeds")


def test_a_name_keeps_clear_of_every_line():
    figure = sheet(5.0, 4.4, "two")
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    level, upright = [(0.0, 0.5), (1.0, 0.5)], [(0.5, 0.0), (0.5, 1.0)]
    name_markers(ax, [Marked("method", (0.5, 0.5), 4.0)], [level, upright])
    box, middle = ax.texts[0].get_window_extent(), ax.transData.transform((0.5, 0.5))
    assert box.x0 > middle[0] and box.y0 > middle[1]  # of all ways, the first between the lines


def test_what_does_not_compete_is_drawn_only_if_asked(make_manifest):
    constant = make_manifest("constant")
    constant["method"] |= {"competes": False, "privileges": []}
    board = Leaderboard.from_manifests("small", [make_manifest(), constant])
    assert [row.label for row in Subject.of(board).rows] == ["alpha"]
    assert [row.label for row in Subject.of(board, ("constant",)).rows] == ["constant"]
    alone = Leaderboard.from_manifests("small", [constant])
    assert [row.label for row in Subject.of(alone).rows] == ["constant"]


def test_an_svg_names_the_matplotlib_that_drew_it_and_has_hundredths_of_a_point(make_board):
    svg = encode(draw("curves", make_board()), "svg").decode()
    assert f"{figures.CREATOR}{matplotlib.__version__}<" in svg
    shapes = re.findall(r' (?:d|x|y)="([^"]*)"|(translate[^)]*)', svg)
    assert shapes and not any(re.search(r"\.\d{3}", part) for shape in shapes for part in shape)


def test_another_machines_rounding_gives_the_same_svg(make_board):
    board = make_board()
    (section,) = board.sections
    cells = section.cells.assign(mean=section.cells["mean"] * (1 + 1e-12))
    other = replace(board, sections=[replace(section, cells=cells)])
    ours, theirs = (encode(draw("curves", each), "svg") for each in (board, other))
    assert ours == theirs
    references = set(re.findall(rb'(?:href="|url\()#(\w[\w-]*)', ours))
    assert references <= set(re.findall(rb' id="([^"]+)"', ours)) and len(references) > 10
