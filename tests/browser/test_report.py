"""The page of `onevision data view` in a real browser."""

import pytest

from onevision.data.planner import make_plan
from onevision.data.report import write_report
from tests.data.conftest import make_reader, mixture_file, reader  # noqa: F401 fixtures

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, reader, micro_config, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "report.html"
    plan = make_plan(reader, num_workers=0)
    write_report(reader, plan, micro_config, output=path, num_samples=2)
    opened = browser.new_page(viewport={"width": 400, "height": 800})
    opened.complaints = []
    opened.on("console", lambda message: opened.complaints.append(message.text))
    opened.on("request", lambda request: opened.complaints.append(request.url[:80]))
    opened.goto(path.as_uri())
    yield opened
    opened.close()


def test_every_picture_is_drawn_and_nothing_is_fetched(page):
    pictures = page.locator(".media img")
    assert pictures.count() == 8
    widths = pictures.evaluate_all("all => all.map(one => one.naturalWidth)")
    assert min(widths) > 100
    outside = [url for url in page.complaints if not url.startswith(("file:", "data:"))]
    assert outside == []


def test_what_is_learned_stands_out(page):
    mark = page.locator("mark").first
    assert "assistant" in "".join(page.locator("mark").all_inner_texts())
    background = mark.evaluate("one => getComputedStyle(one).backgroundColor")
    assert background not in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")


def test_a_phone_needs_no_sideways_scrolling(page):
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 400


def test_bars_say_how_many_samples_they_stand_for(page):
    bars = page.locator("svg.lengths").first.locator("rect")
    assert bars.count() == 32
    assert any("samples of" in text for text in bars.locator("title").all_text_contents())
