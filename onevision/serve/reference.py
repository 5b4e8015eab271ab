"""The OpenAPI description + the served model and limits -> `/docs`, a page without scripts."""

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from onevision.serve.settings import Limits

Json = Mapping[str, Any]  # Any: JSON
PAGE = Template((Path(__file__).parent / "web" / "docs.html").read_text(encoding="utf-8"))
ASK = [{"role": "user", "content": "Describe yourself."}]
EXAMPLE = "onevision-example.png"
DATA_URL = f"data:image/png;base64,$(base64 -w0 {EXAMPLE})"  # the shell fills it in
PICTURE = [
    {
        "role": "user",
        "content": [
            {
                "type": "image_url",
                "image_url": {"url": DATA_URL},
            },
            {"type": "text", "text": "Describe the picture."},
        ],
    }
]
# What the examples send beside the model.
BODIES: Mapping[str, Json] = {
    "/v1/chat/completions": {"messages": PICTURE, "max_tokens": 32},
    "/v1/responses": {"input": ASK, "max_output_tokens": 32},
    "/v1/tokenize": {"messages": PICTURE},
}
# The lowest and the highest value, and what is counted.
BOUNDS = (
    (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"), ""),
    (("minItems",), ("maxItems",), " items"),
    (("minLength",), ("maxLength",), " characters"),
)


def write_reference(
    description: Json, *, model: str, limits: Limits, base_url: str, needs_key: bool
) -> str:
    """Returns the page: every route with an example, every field with its type, every limit."""
    shell = _Shell(base_url, model=model, needs_key=needs_key)
    operations = [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = description["components"]["schemas"]
    return PAGE.substitute(
        version=html.escape(description["info"]["version"]),
        base_url=html.escape(base_url),
        key=_KEY_NEEDED if needs_key else _NO_KEY_NEEDED,
        contents=_list(_link(_anchor(path), f"{method} {path}") for method, path, _ in operations),
        routes="\n".join(_describe_route(*operation, shell) for operation in operations),
        objects="\n".join(_describe_object(name, schemas[name]) for name in schemas),
        limits=_table(
            ("limit", "value"),
            ((f"<code>{n}</code>", f"{v:,}") for n, v in asdict(limits).items()),
        ),
    )


_KEY_NEEDED = (
    "Every request needs a key, <code>Authorization: Bearer KEY</code>; the examples read it from "
    "<code>$ONEVISION_API_KEY</code>."
)
_NO_KEY_NEEDED = "No key is needed."


class _Shell:
    """Writes the examples of one server."""

    def __init__(self, base_url: str, *, model: str, needs_key: bool) -> None:
        self.base_url, self.model = base_url, model
        self.key = ' -H "authorization: Bearer $ONEVISION_API_KEY"' if needs_key else ""

    def example(self, path: str) -> str:
        """Returns the commands that use a route."""
        filled = path.replace("{name}", quote(self.model))
        address = f"'{self.base_url}{filled}'"
        if path not in BODIES:
            return f"curl {address}{self.key}"
        body = json.dumps({"model": self.model, **BODIES[path]}, indent=2, ensure_ascii=True)
        command = f"curl {address}{self.key} -H 'content-type: application/json'"
        if EXAMPLE not in body:
            return f"{command} -d @- <<'END'\n{body}\nEND"
        picture = f"curl -o {EXAMPLE} '{self.base_url}/examples/single.png'{self.key}"
        return f"{picture}\n{command} -d @- <<END\n{body}\nEND"


def _describe_route(method: str, path: str, operation: Json, shell: _Shell) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    answers = operation["responses"].get("200", {}).get("content", {})
    facts = [("Body", content["schema"], kind) for kind, content in body.items()]
    facts += [("Answer", content.get("schema", {}), kind) for kind, content in answers.items()]
    kinds = [
        f"{name}: {_type(schema)} <span>({html.escape(kind)})</span>"
        for name, schema, kind in facts
    ]
    return (
        f'<section id="{_anchor(path)}">'
        f"<h3><b>{method}</b> {html.escape(path)}</h3>"
        f"<p>{_prose(operation.get('description', ''))}</p>{_list(kinds)}"
        f"<pre>{html.escape(shell.example(path))}</pre></section>"
    )


def _describe_object(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{html.escape(field)}</code>",
            _type(form),
            "required" if field in required else _default(form),
        )
        for field, form in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{_anchor(name)}"><h3>{html.escape(name)}</h3>'
        f"<p>{_prose(schema.get('description', ''))}</p>"
        f"{_table(('field', 'type', 'default'), rows)}</section>"
    )


def _type(schema: Json) -> str:
    """Returns what a JSON schema allows, as HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _link(_anchor(name), name)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(f"<code>{html.escape(json.dumps(value))}</code>" for value in values)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(map(_type, schema[several]))
    return _plain_type(schema) + "".join(_bounds(schema))


def _bounds(schema: Json) -> Iterator[str]:
    for lowest, highest, unit in BOUNDS:
        low = [_bound(schema[name], name, "above") for name in lowest if name in schema]
        high = [_bound(schema[name], name, "below") for name in highest if name in schema]
        if low and high:
            yield f" ({low[0]} to {high[0]}{unit})"
        elif low or high:
            yield f" ({low[0] + ' or more' if low else 'up to ' + high[0]}{unit})"


def _bound(value: float, name: str, word: str) -> str:
    number = f"{value:,}" if abs(value) < 1e12 else f"{value:.3g}"
    return f"{word} {number}" if name.startswith("exclusive") else number


def _plain_type(schema: Json) -> str:
    kind = schema.get("type", "any")
    values = schema.get("additionalProperties")
    if "patternProperties" in schema:
        (values,) = schema["patternProperties"].values()
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(values, dict):
        return f"object of {_type(values)}"
    return html.escape(kind)


def _default(schema: Json) -> str:
    """Returns the default of a field; null is the server's own choice, or none."""
    default = schema.get("default")
    return "" if default is None else f"<code>{html.escape(json.dumps(default))}</code>"


def _prose(text: str) -> str:
    """Returns a docstring as HTML, with its code marked."""
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", html.escape(text))


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{anchor}">{html.escape(text)}</a>'


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return f"<table>{''.join(_rows(heads, rows))}</table>"


def _rows(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
