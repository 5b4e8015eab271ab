"""`/docs`: every route, field and limit of a server, and examples that run as they are pasted."""

import html
import os
import re
import subprocess
from dataclasses import fields

import httpx2
import pytest

from onevision.serve.page import POLICY
from onevision.serve.settings import Limits
from tests.serve.conftest import KEY, bearer, start, stop


@pytest.fixture(scope="module")
def page(server):
    return httpx2.get(f"{server.url}/docs")


def examples(text):
    return [html.unescape(found) for found in re.findall(r"<pre>(.*?)</pre>", text, re.S)]


def run(example, directory, **variables):
    """Runs what a reader pastes; returns its output. Any refusal makes curl fail."""
    done = subprocess.run(
        ["bash", "-c", "set -e\n" + example.replace("curl ", "curl -sS --fail-with-body ")],
        cwd=directory, env=os.environ | variables, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{example}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_it_needs_neither_scripts_nor_other_hosts(page, server):
    assert (page.status_code, page.headers["content-security-policy"]) == (200, POLICY)
    assert "<script" not in page.text
    assert "style=" not in page.text
    places = re.findall(r'(?:href|src)="([^"#]*)', page.text)
    assert {place for place in places if place and not place.startswith("/")} == set()
    for place in filter(None, places):
        assert httpx2.get(server.url + place).status_code == 200


def test_it_has_all_routes_fields_and_limits_and_its_links_lead_somewhere(page, server):
    described = httpx2.get(f"{server.url}/openapi.json").json()
    for path in described["paths"]:
        assert f"</b> {path}</h3>" in page.text
    for name, schema in described["components"]["schemas"].items():
        section = page.text.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        rows = re.findall(r"<tr><td><code>(.*?)</code>", section)
        assert rows == list(schema.get("properties", {}))
    for limit in fields(Limits):
        assert f"<td><code>{limit.name}</code></td>" in page.text
    targets = set(re.findall(r' id="([^"]*)"', page.text))
    assert set(re.findall(r'href="#([^"]*)"', page.text)) <= targets


def test_types_are_written_for_readers(page):
    assert "<td><code>temperature</code></td><td>number (0 to 2) or null" in page.text
    assert '<td>list of <a href="#Message">Message</a> (1 or more items)</td>' in page.text
    assert "<td><code>top_p</code></td><td>number (above 0 to 1) or null</td>" in page.text
    assert "<td>required</td>" in page.text


def test_every_example_runs_as_it_is_pasted(page, tmp_path):
    outputs = [run(example, tmp_path) for example in examples(page.text)]
    assert len(outputs) == 9
    assert '"object":"chat.completion"' in outputs[0]
    assert '"image_tokens":' in "".join(outputs)


def test_with_keys_the_page_needs_one_and_the_examples_use_it(tmp_path):
    running = start(tmp_path, "--limit", "images=3", "--name", "our <model>", key=KEY)
    try:
        refused = httpx2.get(f"{running.url}/docs")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")  # so that browsers ask
        text = httpx2.get(f"{running.url}/docs", headers=bearer()).text
        assert httpx2.get(f"{running.url}/docs", auth=("", KEY)).text == text
        assert KEY not in text
        assert "<model>" not in text
        assert "<td><code>images</code></td><td>3</td>" in text
        for example in examples(text):
            run(example, tmp_path, ONEVISION_API_KEY=KEY)
    finally:
        assert stop(running) == 0
