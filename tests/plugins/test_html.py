"""plugins/mmbench_reporters/html.py: what the page says, before any browser reads it."""

import re
from html.parser import HTMLParser

import pytest

from mmbench import board as files
from mmbench.leaderboard import Leaderboard
from mmbench_reporters.html import Html, _ticks


class Page(HTMLParser):
    """Elements with their attributes and texts; void ones are known, all others have to be closed."""

    VOID = ("meta", "link", "input", "line", "polyline", "polygon", "br", "wbr")

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        found = (tag, dict(attributes), [])
        self.elements.append(found)
        if tag not in self.VOID:
            self.open.append(found)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.texts.append(data)
        for _, _, texts in self.open:
            texts.append(data)

    def all(self, tag, **attributes):
        """Texts of the elements of a tag that have some attributes, `data_x` for data-x."""
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            "".join(texts)
            for name, has, texts in self.elements
            if name == tag and wanted.items() <= has.items()
        ]


@pytest.fixture
def text(rich_board):
    return Html().render(rich_board)


@pytest.fixture
def page(text):
    return Page(text)


def test_what_others_wrote_is_text(page, text, hostile):
    assert len(page.all("script")) == 1  # ours
    assert hostile not in text and "&lt;script&gt;alert(" in text
    assert hostile in page.all("th", scope="row")
    for where in (
        "li",
        "summary",
        "option",
        "td",
        "title",
        "p",
    ):  # deviation, method, privilege, ...
        assert any(hostile in told for told in page.all(where)), where
    assert "49 &amp;" not in text  # nor a template


def test_nothing_is_fetched(page, text):
    for tag, attributes, _ in page.elements:
        assert not {"src", "srcset", "action", "onclick", "style"} & set(attributes), tag
    links = [a["href"] for _, a, _ in page.elements if "href" in a]
    assert [link for link in links if not link.startswith("#")] == ["data:,"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|https?://", text)
    (policy,) = (a["content"] for _, a, _ in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_every_number_stands_in_a_table_without_a_script(page):
    # alpha's {l}, which its tables of rates do not have, under both labels
    assert page.all("td", data_mean="70.00") == ["70.00 ± 7.07"] * 4
    assert "hidden" in next(a for t, a, _ in page.elements if t == "form")
    assert len(page.all("table")) == 2 + 2 * 2 + 2  # in short, scores, costs and failures


def test_what_a_test_found_stands_at_both_cells(page):
    told = [a["data-test"] for _, a, _ in page.elements if "data-test" in a]
    assert told == [
        "+2.50 ± 1.00 (standard error) against beta; p = 0.012 after Holm, 2 seeds",
        "-2.50 ± 1.00 (standard error) against alpha; p = 0.012 after Holm, 2 seeds",
    ]


def test_violations_are_told_beside_the_number_of_comparisons_and_sort_as_a_number(make_manifest):
    manifests = [make_manifest("alpha"), make_manifest("beta", scores=(0.9, 0.4, 0.8))]
    page = Page(Html().render(Leaderboard.from_manifests("small", manifests)))
    told = {
        "".join(texts): a["data-value"]
        for t, a, texts in page.elements
        if "of 2" in "".join(texts[:1])
    }
    assert told == {"0 of 2": "0.000000", "1 of 2": "1.000000"}


def test_a_label_may_break_before_its_settings_and_nothing_else_of_it_changes(make_manifest):
    manifest = make_manifest()
    manifest["job"]["label"] = "alpha[width=<8>]"
    text = Html().render(Leaderboard.from_manifests("small", [manifest]))
    assert text.count('<th scope="row">alpha<wbr>[width=&lt;8&gt;]</th>') == 4
    assert Page(text).all("th", scope="row").count("alpha[width=<8>]") == 4


def test_a_star_an_arrow_and_the_best_are_marked(page):
    (starred,) = (told for told in page.all("td") if "*" in told and "±" in told)
    assert starred == "57.50* ± 3.54"
    assert "25.00 ↓" in page.all("td") and "57.50 ± 3.54" in page.all("td", **{"class": "best"})


def test_a_cell_has_its_provenance(page):
    (cell, *_) = (a for t, a, _ in page.elements if t == "td" and a.get("data-mean") == "70.00")
    assert cell["data-spread"] == "7.07" and cell["data-masks"] == "7.07"
    assert cell["data-ceiling"] == "95.00"
    floors = {a.get("data-floor") for t, a, _ in page.elements if t == "tr" and "data-label" in a}
    assert "50.00" in floors
    row = next(a for t, a, _ in page.elements if t == "tr" and a.get("data-method") == "alpha")
    assert row["data-seeds"] == "0, 1" and row["data-commit"] == "c" * 12 and row["data-config"]
    table = next(a for t, a, _ in page.elements if a.get("data-metric-id") == "f1@1")
    assert table["data-formula"] == "f" and table["data-data-hash"] == "d" * 12


def test_synthetic_data_is_labelled_on_top_and_beside_every_table(page, make_manifest):
    assert "made-up twin" in page.all("p", **{"class": "notice"})[0]
    titles = [told for level in ("h2", "h3", "h4") for told in page.all(level) if "How" not in told]
    titles = [told for told in titles if "What each" not in told] + page.all("figcaption")
    assert titles and all(told.endswith("synthetic data") for told in titles)
    real = Html().render(Leaderboard.from_manifests("small", [make_manifest(synthetic=False)]))
    assert "ynthetic data" not in re.sub(r"(?s)<(style|script)>.*?</\1>", "", real)


def test_curves_have_spread_floor_and_ceiling(page):
    curves = [a for t, a, _ in page.elements if t == "g" and a["class"].startswith("curve")]
    assert len(curves) == 4 * 2 * 2  # methods, labels, metrics
    assert sum("ceiling" in a["class"] for a in curves) == 4
    assert len([1 for t, _, _ in page.elements if t == "polygon"]) == 4  # alpha alone has two seeds
    assert page.all("title").count("floor") == 4
    points = [a["points"] for t, a, _ in page.elements if t == "polyline" and "44," in a["points"]]
    x, y = zip(*(map(float, p.split(",")) for p in points[0].split()), strict=True)
    assert x == (44, 236, 428) and y[0] < y[1] < y[2]  # the score falls, so y grows


@pytest.mark.parametrize(("low", "high"), [(0.2507, 0.85), (0.5, 0.5), (-0.3, 1.46), (0, 1)])
def test_ticks_are_few_and_hold_the_scores(low, high):
    ticks = _ticks(low, high)
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9 and 2 <= len(ticks) <= 8


def test_failures_and_untested_rows_are_told(page, hostile):
    assert hostile in page.all("td", **{"class": "text long"})
    assert "1 result failed" in page.all("a", href="#failed")
    assert any(
        told.startswith("No rank and no test for") and "beta" in told for told in page.all("li")
    )


def test_how_to_read_stars_and_ranks_is_told_where_there_are_tests(page, make_manifest):
    told = page.all("li")
    for word in (
        "Tests: of the headline metric, two-sided, paired",
        "*: in a condition: ",
        "Rank: 1 1 3",
    ):
        assert any(text.startswith(word) for text in told), word
    without = Page(Html().render(Leaderboard.from_manifests("small", [make_manifest()])))
    assert not any(text.startswith(("Tests:", "*:", "Rank:")) for text in without.all("li"))


def test_the_same_leaderboard_gives_the_same_bytes(rich_board, text, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(files.write(rich_board))
    assert Html().render(rich_board) == text == Html().render(files.read(path))


def test_an_empty_leaderboard_and_one_of_failures_can_be_written(make_manifest):
    for manifests in ([], [make_manifest(reason="boom")]):
        page = Page(Html().render(Leaderboard.from_manifests("small", manifests)))
        assert "There is no finished result." in page.all("p")


def test_a_result_that_lacks_a_metric_has_a_gap(make_manifest):
    lacks, has = make_manifest(), make_manifest("beta", finished="2026-03-01T00:00:00+00:00")
    for name in ("deviations", "privileges", "paper", "summary"):
        del lacks["method"][name]
    has["metrics"]["mae"] |= {"id": "mae@2"}
    text = Html().render(Leaderboard.from_manifests("small", [lacks, has]))
    assert "<td>-</td>" in text and not re.search(r"\bnan\b", text)
