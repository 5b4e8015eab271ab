"""The page of a run's curves in a real browser."""

import math

import pytest

from onevision.train.report.curves import write_curves
from onevision.train.report.metrics import MetricsLog
from tests.train.test_metrics import measured

pytestmark = pytest.mark.browser

# Words that leave their chart, or are less than 9 pixels high.
OUTSIDE = """() => [...document.querySelectorAll("svg.plot text")].filter(one => {
    const [text, chart] = [one, one.closest("svg")].map(e => e.getBoundingClientRect());
    return text.left < chart.left - 1 || text.right > chart.right + 1 || text.height < 9;
}).map(one => one.textContent)"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    directory = tmp_path_factory.mktemp("onevision-of-the-second-try")
    odd = {7: {"skipped": True, "loss": math.nan}, 9: {"loss": math.inf}}
    sources = {f"a-rather-long-name-of-a-source-{n}(and a note)": 1.0 + n for n in range(10)}
    with MetricsLog(directory) as log:
        for step in range(1, 31):
            log.write(measured(step, loss_per_source=sources, **odd.get(step, {})))
    return write_curves(directory)


@pytest.fixture
def open_page(browser, path):
    """Open the page at a width and in a scheme; gather what it asks for and complains about."""
    pages = []

    def open_page(width, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.complaints.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


def test_nothing_is_fetched_but_the_page(open_page, path):
    assert open_page(1440).complaints == [path.as_uri()]


@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1440, 3)])
def test_charts_fill_the_width_without_sideways_scrolling(open_page, width, columns):
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [chart.bounding_box() for chart in page.locator("svg.plot").all()]
    assert len(boxes) == 6
    assert len({round(box["x"]) for box in boxes}) == columns
    assert min(box["width"] for box in boxes) > 330
    assert sum(box["width"] for box in boxes[:columns]) > 0.85 * width


@pytest.mark.parametrize("width", [390, 1440])
def test_words_at_the_axes_lie_inside_their_chart_and_can_be_read(open_page, width):
    page = open_page(width)
    outside = page.evaluate(OUTSIDE)
    assert outside == []


# The path of a curve, and of a mark, in the first chart.
CURVE = "svg.plot >> nth=0 >> path[style*='var(--s0)']:not([style*='opacity'])"
MARK = "svg.plot >> nth=0 >> g:has(> title:text-is('skipped steps')) use"
COLOURS = "one => getComputedStyle(one).{}.match(/\\d+/g).slice(0, 3).map(Number)"


def test_curves_and_marks_have_their_colours(open_page):
    page = open_page(1440)
    assert page.locator(CURVE).first.evaluate(COLOURS.format("stroke")) == [0, 114, 178]
    assert page.locator(MARK).first.evaluate(COLOURS.format("fill")) == [193, 18, 31]
    assert page.get_by_text("losses not finite 1").count() == 6


def test_the_dark_scheme_has_light_words_and_curves(open_page):
    page = open_page(390, "dark")
    assert sum(page.locator("body").evaluate(COLOURS.format("color"))) > 600
    assert sum(page.locator(CURVE).first.evaluate(COLOURS.format("stroke"))) > 400


def test_tables_tell_totals_and_sources(open_page):
    page = open_page(390)
    rows = page.locator("table").first.locator("tr").all_inner_texts()
    assert "samples\t240" in rows
    assert "skipped steps\t1" in rows
    assert page.locator("table").nth(1).locator("tr").count() == 11
