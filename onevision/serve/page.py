"""The demo page, its parts and examples: routes for the files of a table, and no others."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response

WEB = Path(__file__).parent / "web"
DEMO = Path(__file__).parents[1] / "assets" / "demo"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {"content-security-policy": POLICY, "cache-control": "no-cache"}
FILES = {
    "/": (WEB / "index.html", "text/html; charset=utf-8"),
    "/page.css": (WEB / "page.css", "text/css; charset=utf-8"),
    "/docs.css": (WEB / "docs.css", "text/css; charset=utf-8"),
    "/page.js": (WEB / "page.js", "text/javascript; charset=utf-8"),
    "/kept.js": (WEB / "kept.js", "text/javascript; charset=utf-8"),
    "/marks.js": (WEB / "marks.js", "text/javascript; charset=utf-8"),
    "/markdown.js": (WEB / "markdown.js", "text/javascript; charset=utf-8"),
    "/icon.svg": (WEB / "icon.svg", "image/svg+xml"),
    "/examples/single.png": (DEMO / "single.png", "image/png"),
    "/examples/pair-1.png": (DEMO / "pair-1.png", "image/png"),
    "/examples/pair-2.png": (DEMO / "pair-2.png", "image/png"),
    "/examples/clip.mp4": (DEMO / "clip.mp4", "video/mp4"),
}


def add_page(app: FastAPI) -> None:
    """Adds a route for each file of the table."""
    for path, (file, kind) in FILES.items():
        app.add_api_route(path, _file_route(file, kind), include_in_schema=False)


def _file_route(file: Path, kind: str):  # noqa: ANN202 a coroutine function
    async def send_file() -> Response:
        return Response(file.read_bytes(), media_type=kind, headers=PAGE_HEADERS)

    return send_file
