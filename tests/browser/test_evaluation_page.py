"""The page of `onevision report` in a real browser."""

import pytest

from onevision.eval.report.page import write_report
from tests.eval.runs import write_run

pytestmark = pytest.mark.browser

# Words that leave their plot, or are less than 9 pixels high.
OUTSIDE = """() => [...document.querySelectorAll("svg.plot text")].filter(one => {
    const [text, plot] = [one, one.closest("svg")].map(e => e.getBoundingClientRect());
    return text.left < plot.left - 1 || text.right > plot.right + 1
        || text.top < plot.top - 1 || text.bottom > plot.bottom + 1 || text.height < 9;
}).map(one => one.textContent)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    runs = [write_run(root / name) for name in ("tiny", "tiny-after-a-second-try")]
    return {
        "runs": write_report(runs, root / "of-runs"),
        "paper": write_report([], root / "of-paper"),
    }


@pytest.fixture
def open_page(browser, pages):
    opened = []

    def open_page(which, width, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("request", lambda request: page.complaints.append(request.url))
        page.goto(pages[which].as_uri())
        return page

    yield open_page
    for page in opened:
        page.close()


def test_nothing_is_fetched_but_the_page(open_page, pages):
    assert open_page("runs", 1440).complaints == [pages["runs"].as_uri()]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("which", ["runs", "paper"])
def test_it_fits_its_width_and_its_words_can_be_read(open_page, which, width):
    page = open_page(which, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    boxes = [plot.bounding_box() for plot in page.locator("svg.plot").all()]
    assert len({round(box["x"]) for box in boxes}) == (1 if width == 390 else 2)


def test_the_table_scrolls_under_its_names_on_a_phone(open_page):
    page = open_page("paper", 390)
    name = page.locator("tbody th").nth(1)
    before = name.bounding_box()["x"]
    page.locator(".wide").first.evaluate("one => one.scrollLeft = 200")
    assert name.bounding_box()["x"] == before
    figures = page.locator("tbody tr").nth(1).locator("td")
    assert figures.all_inner_texts() == ["57.1", "81.4", "85.6", "78.2", "94.2"]


def test_marks_say_what_they_stand_for(open_page):
    page = open_page("runs", 1440)
    hints = page.locator("svg.plot title").all_text_contents()
    assert "AI2D, tiny: 61.6 [58.5, 64.7]" in hints
    assert "MMMU, GPT-4o: 69.1" in hints


def test_the_dark_scheme_is_dark(open_page):
    page = open_page("runs", 390, "dark")
    light = "one => getComputedStyle(one).{}.match(/\\d+/g).slice(0, 3).map(Number)"
    assert sum(page.locator("body").evaluate(light.format("backgroundColor"))) < 150
    assert sum(page.locator("body").evaluate(light.format("color"))) > 600
