"""The page of `onevision serve` in a real browser, against a real server."""

import json

import pytest

from onevision.cli.demo import DEMO
from tests.serve.conftest import KEY, narrow, server  # noqa: F401 fixtures

pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(browser, server):  # noqa: F811
    """Opens the page; records its requests and console messages."""
    pages = []

    def open_page(width=390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        pages.append(page)
        page.complaints, page.asked = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(server.url)
        page.wait_for_selector("#model:not(:empty)")
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", [360, 390, 1440])
def test_an_example_is_answered_and_nothing_else_is_fetched(open_page, server, width):  # noqa: F811
    page = open_page(width)
    page.locator("#examples button").nth(1).click()
    page.wait_for_selector(".assistant:not(.running) .below .faint:not(:empty)")
    assert page.locator(".assistant .said").inner_text()
    assert "100 image tokens in" in page.locator(".below .faint").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    own = (server.url, "data:", "blob:")
    assert [url for url in page.asked if not url.startswith(own)] == []
    assert page.complaints == []


def test_token_counts_are_shown_and_media_can_be_moved_and_removed(open_page):
    page = open_page()
    page.locator("#files").set_input_files([DEMO / "single.png", DEMO / "clip.mp4"])
    captions = page.locator("#media .caption")
    captions.filter(has_text="8 frames").wait_for()  # the second file's count may come later
    assert captions.all_inner_texts() == ["259 tokens · 5 crops", "129 tokens · 8 frames"]
    page.get_by_label("Look closer: single.png").press("Enter")
    assert page.locator("#looked i").count() == 2  # two by two crops beside the whole
    assert page.locator("#looked-caption").inner_text().startswith("single.png: 259 tokens")
    page.keyboard.press("Escape")
    assert not page.locator("#look").is_visible()
    page.get_by_label("Look closer: clip.mp4").click()
    assert page.locator("#looked i").count() == 0
    times = page.locator("#frames span").all_inner_texts()
    assert (times[0], len(times)) == ("0.00 s", 8)
    # Every frame is drawn, and they are not all the same one.
    page.locator("#frames canvas:not([width='0'])").nth(7).wait_for()
    drawn = page.locator("#frames canvas").evaluate_all("all => all.map((c) => c.toDataURL())")
    assert len(set(drawn)) > 1
    page.keyboard.press("Escape")
    page.get_by_label("Move forward: clip.mp4").click()
    assert page.locator("#media .thumb").first.evaluate("one => one.tagName") == "VIDEO"
    page.get_by_label("Remove: clip.mp4").click()
    assert page.locator("#media li").count() == 1


@pytest.mark.parametrize(
    "event",
    [
        "new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true})",
        "new ClipboardEvent('paste', {clipboardData: held, bubbles: true, cancelable: true})",
    ],
    ids=["drop", "paste"],
)
def test_a_dropped_or_pasted_picture_is_attached_and_asked_about(open_page, event):
    page = open_page()
    page.evaluate(
        f"""(bytes) => {{
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes)], "a.png", {{type: "image/png"}}));
            document.body.dispatchEvent({event});
        }}""",
        list((DEMO / "single.png").read_bytes()),
    )
    page.wait_for_selector("#cost:not(:empty)")
    assert page.locator("#media .caption").all_inner_texts() == ["259 tokens · 5 crops"]
    page.fill("#text", "How many objects are there?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant:not(.running) .below .faint:not(:empty)")
    assert "259 image tokens in" in page.locator(".below .faint").first.inner_text()
    assert page.complaints == []


def test_fewer_visual_tokens_are_counted_before_and_after(open_page):
    page = open_page()
    page.locator("#files").set_input_files(DEMO / "single.png")
    page.get_by_role("button", name="Settings").click()
    page.locator("[name=keep]").fill("0.5")
    page.fill("#text", "How many objects are there?")
    page.get_by_text("137 of 259 tokens · 5 crops").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant:not(.running) .below .faint:not(:empty)")
    told = page.locator(".below .faint").first.inner_text()
    assert "137 image tokens in · 122 dropped" in told
    assert page.complaints == []


def test_a_broken_file_is_marked_and_the_question_stays(open_page, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page = open_page()
    page.locator("#files").set_input_files([DEMO / "single.png", broken])
    page.fill("#text", "What is this?")
    page.wait_for_selector("#media li.bad")
    assert page.locator("#problem").inner_text().startswith("broken.png: not an image")
    assert page.locator("#media li").nth(1).get_attribute("class") == "bad"
    page.reload()
    assert page.locator("#text").input_value() == "What is this?"


def test_answers_are_shown_as_plain_text(open_page):
    """Markup in an answer is shown as text and fetches nothing."""
    evil = '<img src="http://evil.example/x"><script>alert(1)</script>![](http://evil.example/y)'
    page = open_page()
    event = json.dumps({"choices": [{"delta": {"content": evil}}]})
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(content_type="text/event-stream", body=f"data: {event}\n\n"),
    )
    page.fill("#text", "Hi")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant:not(.running) .below")
    assert page.locator(".assistant .said").inner_text() == evil
    assert not [url for url in page.asked if "evil" in url]


def answering(page, words):
    """Has the page shown an answer of these words."""
    event = json.dumps({"choices": [{"delta": {"content": words}}]})
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(content_type="text/event-stream", body=f"data: {event}\n\n"),
    )
    page.fill("#text", "Hi")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant:not(.running) .below")
    return page.locator(".assistant .said").last


def test_boxes_and_points_of_an_answer_lie_on_its_picture(open_page):
    page = open_page()
    page.set_input_files("#files", str(DEMO / "single.png"))
    page.wait_for_selector("#media li .thumb")
    answering(page, "A ring [0.25, 0.20, 0.75, 0.60] and a dot [0.10, 0.90]; not [12, 30, 55, 80].")
    picture = page.locator(".user .marked > img").bounding_box()
    box = page.locator(".user .marked > .box").bounding_box()
    assert box["x"] == pytest.approx(picture["x"] + 0.25 * picture["width"], abs=1)
    assert box["y"] == pytest.approx(picture["y"] + 0.2 * picture["height"], abs=1)
    assert box["width"] == pytest.approx(0.5 * picture["width"], abs=1)
    assert box["height"] == pytest.approx(0.4 * picture["height"], abs=1)
    point = page.locator(".user .marked > .point").bounding_box()
    middle = point["x"] + point["width"] / 2
    assert middle == pytest.approx(picture["x"] + 0.1 * picture["width"], abs=1)
    assert page.locator(".user .marked > i").count() == 2
    assert not page.complaints


def test_markdown_of_an_answer_is_shown(open_page):
    words = (
        "# Two\n\n- **one** `a < b`\n- *two*\n  lines\n\n| a | b |\n|---|---|\n| *1* | <b> |\n\n"
        "1. x\n\n```\n<b>\n```\n[here](https://a.example/b)"
    )
    said = answering(open_page(), words)
    assert said.locator("h3").inner_text() == "Two"
    assert said.locator("ul li").all_inner_texts() == ["one a < b", "two lines"]
    assert said.locator("th").all_inner_texts() == ["a", "b"]
    assert said.locator("td").all_inner_texts() == ["1", "<b>"]
    assert said.locator("strong").inner_text() == "one"
    assert said.locator("pre code").inner_text() == "<b>"
    link = said.locator("a")
    assert (link.get_attribute("href"), link.inner_text()) == ("https://a.example/b", "here")
    assert "noopener" in link.get_attribute("rel")


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](data:text/html,<script>alert(1)</script>)",
        "**<svg onload=alert(1)>**",
        "`<script>alert(1)</script>`",
        "```\n</code></pre><script>alert(1)</script>\n```",
        '[x](https://a.example/"onmouseover="alert(1))',
        "# <iframe src=javascript:alert(1)>",
        "![x](https://evil.example/pixel.png)",
        "- [x]( javascript:alert(1))",
        "| <img src=x onerror=alert(1)> |\n|---|\n| [x](javascript:alert(1)) |",
    ],
)
def test_nothing_in_an_answer_is_run_or_fetched(open_page, evil):
    page = open_page()
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    said = answering(page, evil)
    for tag in ("script", "img", "svg", "iframe", "[onerror]", "[onload]", "[onmouseover]"):
        assert said.locator(tag).count() == 0
    for link in said.locator("a").all():
        assert link.get_attribute("href").startswith("https://")
    assert page.complaints == []
    assert not [url for url in page.asked if "evil" in url]


def test_a_reload_keeps_the_chat_until_a_new_one(open_page):
    page = open_page()
    page.locator("#files").set_input_files(DEMO / "single.png")
    page.wait_for_selector("#media li")
    answering(page, "A **picture**.")
    for _ in range(2):
        page.reload()
        page.wait_for_selector(".assistant .said strong")
        assert page.locator(".user .shown img").get_attribute("src").startswith("data:image/png")
    page.locator("#clear").click()
    page.wait_for_selector("#welcome:not([hidden])")
    page.reload()
    page.wait_for_selector("#model:not(:empty)")
    assert page.locator("article").count() == 0


ROUTE = "**/v1/chat/completions"


def ask_at_length(page, text):
    """Ask for an answer that goes on for some seconds, whatever is said, until one is running.

    A busy machine may show it when it has ended already.
    """

    def lengthen(route):
        body = route.request.post_data_json
        route.continue_(post_data=json.dumps(body | {"ignore_eos": True}))

    page.route(ROUTE, lengthen)
    page.click("#open-settings")
    page.fill("input[name=max_tokens]", "600")
    begun, ended = ".assistant.running .said:not(:empty)", ".assistant:not(.running):last-child"
    for _ in range(10):
        page.fill("#text", text)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"{begun}, {ended}", state="attached")
        if page.locator(".assistant.running").count():
            page.unroute(ROUTE)
            return
    raise AssertionError("no answer was running when it was looked at")


def test_a_reload_during_an_answer_keeps_the_question_and_what_arrived(open_page, server):  # noqa: F811
    page = open_page()
    page.locator("#files").set_input_files(DEMO / "single.png")
    page.wait_for_selector("#cost:not(:empty)")
    ask_at_length(page, "Which picture?")
    before = page.locator(".assistant .said").last.inner_text()
    for _ in range(2):
        page.reload()
        page.wait_for_selector(".assistant .said")
        assert page.locator(".user .said").last.inner_text() == "Which picture?"
        assert page.locator(".user .shown img").count() == 1
        assert page.locator(".assistant .said").last.inner_text()[:3] == before[:3]
        assert page.locator(".below .faint").last.inner_text() == "interrupted by a reload"
        assert page.locator("#text").input_value() == ""
    page.get_by_role("button", name="Retry").click()
    page.wait_for_selector(".assistant:not(.running):last-child .faint:not(:empty)")
    assert "out" in page.locator(".below .faint").last.inner_text()
    server.wait_until_idle()


def wait_until(page, expression):
    """`wait_for_function` polls by eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def test_a_reload_before_an_answer_begins_keeps_the_question(open_page):
    page = open_page()
    page.route("**/v1/chat/completions", lambda route: None)  # no answer arrives
    page.fill("#text", "Which?")
    page.keyboard.press("Enter")
    wait_until(page, "sessionStorage.getItem('draft') === ''")
    page.reload()
    page.wait_for_selector(".assistant .below")
    assert page.locator(".user .said").inner_text() == "Which?"
    assert not page.locator(".assistant .said").is_visible()
    page.get_by_role("button", name="Edit").click()
    page.reload()
    assert page.locator("#text").input_value() == "Which?"


def test_settings_open_in_view_wherever_the_page_is(open_page):
    page = open_page()
    answering(page, "\n\n".join(["A line."] * 80))
    assert page.evaluate("scrollY") > 500
    page.locator("#open-settings").click()
    box = page.locator("#settings").bounding_box()
    assert 0 <= box["y"] < 100
    assert page.locator("#settings input[name=temperature]").is_visible()


def test_stop_keeps_the_text_so_far(open_page, server):  # noqa: F811
    page = open_page()
    ask_at_length(page, "Hi")
    page.click("#send")
    page.wait_for_selector(".assistant:not(.running):last-child")
    assert page.locator(".assistant .said").last.inner_text()
    server.wait_until_idle()


def test_with_a_key_the_browser_asks_for_it_once(browser, narrow):  # noqa: F811
    context = browser.new_context(http_credentials={"username": "", "password": KEY})
    page = context.new_page()
    page.goto(narrow.url)
    page.wait_for_selector("#model:not(:empty)")
    page.fill("#text", "Hi")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant:not(.running) .below .faint:not(:empty)")
    context.close()
