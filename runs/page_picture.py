"""A running server -> a screenshot of its chat page for the README, with the bundled image pair.

    onevision serve --model tiny &
    .venv/bin/python runs/page_picture.py http://127.0.0.1:8000     3 s, with chromium

Writes docs/page.png.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "page.png"
ANSWERED = ".assistant:not(.running) .below .faint:not(:empty)"


def main(address: str) -> None:
    """Ask about the second example, and write the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 900, "height": 540})
        page.goto(address)
        page.wait_for_selector("#model:not(:empty)")
        page.locator("#examples button").nth(1).click()
        page.wait_for_selector(ANSWERED)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
