"""The leaderboard's page in a real browser: Debian's chromium, driven by playwright.

Skipped where either is missing: `pip install playwright`, and a `chromium` on the path.
"""

import shutil

import pytest

from mmbench_reporters.html import Html

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not CHROMIUM:
    pytest.skip("there is no `chromium` on the path", allow_module_level=True)

SCORES = "table.scores[data-metric-id='f1@1'][data-protocol-id='inter@1']"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def open_page(browser, rich_board, tmp_path):
    """Opens the page, and in the end asserts that it was silent and asked for nothing."""
    path = tmp_path / "small.html"
    path.write_text(Html().render(rich_board), encoding="utf-8")
    said, requests, contexts = [], [], []

    def make(width=1280, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield make
    for context in contexts:
        context.close()
    assert said == [] and set(requests) <= {path.as_uri(), "data:,"}


@pytest.fixture
def page(open_page):
    return open_page()


def methods(page, table=SCORES, label="happy"):
    """Names in the visible rows of a label, from top to bottom."""
    rows = page.locator(f"{table} tbody tr:visible")
    if label:
        rows = rows.and_(page.locator(f"[data-label={label}]"))
    return [name[:5] for name in rows.locator("th").all_inner_texts()]


def heading(page, title, table=SCORES):
    return page.locator(f"{table} thead th", has_text=title).first


def test_a_click_sorts_best_first_and_another_turns_it(page):
    button = heading(page, "{a}").locator("button")
    button.click()
    assert heading(page, "{a}").get_attribute("aria-sort") == "descending"
    assert methods(page) == ["best-", "beta", "alpha", "<scri"]
    button.click()
    assert heading(page, "{a}").get_attribute("aria-sort") == "ascending"
    assert methods(page) == ["<scri", "alpha", "beta", "best-"]
    assert page.locator(f"{SCORES} tfoot tr").first.inner_text().startswith("floor")
    assert page.locator(f"{SCORES} [aria-sort]:not([aria-sort=none])").count() == 1


def test_an_error_sorts_lowest_first_and_names_by_letters(page):
    page.select_option("[name=metric]", "mae")
    table = SCORES.replace("f1@1", "mae@1")
    heading(page, "{a}", table).locator("button").click()
    assert heading(page, "{a}", table).get_attribute("aria-sort") == "ascending"
    assert methods(page, table)[0] == "best-"
    heading(page, "Method", table).locator("button").click()
    assert methods(page, table) == ["<scri", "alpha", "best-", "beta"]


def test_the_keyboard_sorts(page):
    heading(page, "{a}").locator("button").focus()
    page.keyboard.press("Enter")
    assert methods(page)[0] == "best-"
    page.keyboard.press("Space")
    assert methods(page)[0] == "<scri"


def test_filters_by_protocol_metric_and_label(page):
    shown = page.locator("table.scores:visible")
    told = [table.get_attribute("data-metric-id") for table in shown.all()]
    assert told == ["f1@1", "f1@1"]  # the headline alone, at first
    page.select_option("[name=metric]", "")
    assert shown.count() == 4
    page.select_option("[name=protocol]", "intra")
    assert {table.get_attribute("data-protocol-id") for table in shown.all()} == {"intra@1"}
    page.select_option("[name=label]", "sad")
    labels = page.locator("table.scores:visible tr[data-label]:visible td.text")
    assert set(labels.all_inner_texts()) == {"sad"}
    assert page.locator("figure:visible").count() == 2  # one for each metric


def test_filters_by_track_privilege_and_text(page, hostile):
    page.select_option("[name=track]", "reference")
    assert methods(page) == ["best-"] == methods(page, "table.costs", "")
    assert page.locator("output").inner_text() == "1 of 4 methods"
    assert page.locator("figure:visible g.curve:visible").count() == 2  # one for each label
    page.locator("form button").click()
    page.select_option("[name=privilege]", "none")
    assert methods(page) == ["beta"]
    page.select_option("[name=privilege]", "=" + hostile)
    assert methods(page) == ["<scri"]
    page.select_option("[name=privilege]", "")
    page.fill("[name=text]", "ALPH")
    assert methods(page) == ["alpha"]
    page.locator("form button").click()
    assert len(methods(page)) == 4 and page.locator("table.scores:visible").count() == 2


def test_pointing_at_a_cell_tells_where_it_comes_from(page):
    popup = page.locator("#provenance")
    page.locator(f"{SCORES} [data-mean='70.00']").first.hover()
    popup.wait_for()
    told = popup.inner_text()
    for said in (
        "alpha · happy · {l}",
        "70.00 over 2 seeds (0, 1)",
        "7.07",
        "50.00",
        "95.00",
        "f1@1: f",
        "inter@1, 2 per condition, pppppppppppp",
        "dddddddddddd, synthetic",
        "cccccccccccc",
    ):
        assert said in told, said
    popup.hover()  # it stays while it is pointed at
    page.wait_for_timeout(400)
    assert popup.is_visible()
    page.mouse.move(2, 2)
    popup.wait_for(state="hidden")


def test_a_click_keeps_the_provenance_until_it_is_closed(page):
    popup = page.locator("#provenance")
    cell = page.locator(f"{SCORES} [data-test]").first
    cell.click()
    page.mouse.move(2, 2)
    page.wait_for_timeout(400)
    assert popup.is_visible() and "against beta; p = 0.012" in popup.inner_text()
    assert cell.get_attribute("aria-describedby") == "provenance"
    page.keyboard.press("Escape")
    assert popup.is_hidden() and cell.get_attribute("aria-describedby") is None


def test_the_keyboard_reaches_every_cell_by_one_stop_of_tab(page):
    heading(page, "{l, a}").locator("button").focus()
    page.keyboard.press("Tab")
    popup = page.locator("#provenance")
    assert popup.inner_text().startswith("<script>")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert popup.inner_text().startswith("alpha · happy · {a}")
    page.keyboard.press("End")
    assert popup.inner_text().startswith("alpha · happy · {l, a}")
    page.keyboard.press("Tab")
    assert page.evaluate(f'!document.activeElement.closest("{SCORES}")')


def test_a_legend_brings_out_a_curve(page):
    figure = page.locator("figure:visible").first
    figure.locator(".legend button", has_text="alpha").press("Enter")
    assert figure.locator("g.curve:not(.dimmed) title").all_text_contents() == ["alpha"]
    figure.locator(".legend button", has_text="alpha").press("Enter")
    assert figure.locator("g.dimmed").count() == 0


def test_a_phone_scrolls_the_table_and_not_the_page(open_page):
    page = open_page(375, 740, has_touch=True, is_mobile=True)
    page.select_option("[name=metric]", "")
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    box, first = page.locator(f".scroll:has({SCORES})"), page.locator(f"{SCORES} tbody th").first
    assert box.evaluate("each => each.scrollWidth > each.clientWidth")
    before = first.bounding_box()["x"]
    box.evaluate("each => each.scrollBy(150, 0)")
    assert first.bounding_box()["x"] == before  # the first column stays
    page.locator(f"{SCORES} [data-test]").first.tap()
    page.locator("#provenance").wait_for(timeout=3000)
    place = page.locator("#provenance").bounding_box()
    assert place["x"] == 0 and place["width"] == 375
    assert place["y"] + place["height"] == pytest.approx(740, abs=1)


def test_colours_follow_the_system(open_page):
    lightness = []
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness.append(sum(map(int, colour[4:-1].split(","))))
    assert lightness[0] > 700 > 150 > lightness[1]


def test_without_scripts_the_tables_are_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("table.scores:visible").count() == 4
    assert page.locator("form").is_hidden() and page.locator("#provenance").is_hidden()
    assert page.locator("thead button").count() == 0
    assert page.locator("figure svg[role=img]:visible").count() == 4


def test_a_hostile_name_is_text(page, hostile):
    assert page.locator(f"{SCORES} th", has_text="<script>").first.inner_text() == hostile
    assert page.locator("script").count() == 1
